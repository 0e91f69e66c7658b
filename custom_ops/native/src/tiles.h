// Block formats as the kernels read them: in tiles of sixteen rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace native {

constexpr size_t kTileAlignment = 64;

// Groups of sixteen rows that so many rows are in.
int64_t tile_groups(int64_t rows);

// Bytes of the tiles of sixteen rows; 0 of an encoding that has none.
int64_t tile_group_bytes(Encoding encoding, int64_t columns);

// Packs the bytes of a file, [rows, row_bytes], into tiles, [tile_groups, tile_group_bytes], which begin at a multiple
// of kTileAlignment. Works on all cores and past the caches; where the bytes are a mapped file, its pages are given
// back as it goes.
void pack(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t columns, uint8_t* tiles);

}  // namespace native
