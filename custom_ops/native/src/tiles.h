// How matrices are packed: in tiles of 16 rows, a lane for each row, read once from front to back.
//
//   q4_0   16 x 64   32 scales (two blocks of 16 rows), then 8 lines of nibbles           576 bytes
//   q4_1   16 x 64   32 scales, 32 offsets, then 8 lines of nibbles                        640
//   q8_0   16 x 64   32 scales, then 16 lines of codes                                    1088
//   q6_k   16 x 256  16 scales, 32 bytes unused, 16 x 16 scales of a byte, then of each half
//                    8 lines of upper bits, each with one of nibbles after it, and 8 lines of
//                    the other nibbles                                                    3392
//
// A line is 64 bytes: four bytes of each row. What a byte holds is what it holds in the file, so a
// tile takes as many bytes as its blocks do there (q6_k: 1 % more). Scales are float16.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace native {

constexpr int64_t tile_columns(Encoding encoding) { return encoding == Encoding::q6_k ? 256 : 64; }

// Bytes of a tile before its lines of codes.
constexpr int64_t tile_header(Encoding encoding) {
  switch (encoding) {
    case Encoding::q4_1: return 128;
    case Encoding::q6_k: return 64 + 256;
    default: return 64;
  }
}

constexpr int64_t tile_bytes(Encoding encoding) {
  switch (encoding) {
    case Encoding::q4_0: return tile_header(encoding) + 8 * 64;
    case Encoding::q4_1: return tile_header(encoding) + 8 * 64;
    case Encoding::q8_0: return tile_header(encoding) + 16 * 64;
    case Encoding::q6_k: return tile_header(encoding) + 48 * 64;
    default: return 0;
  }
}

// Bytes of a row in the file.
constexpr int64_t row_bytes(Encoding encoding, int64_t columns) {
  switch (encoding) {
    case Encoding::f32: return columns * 4;
    case Encoding::f16:
    case Encoding::bf16: return columns * 2;
    case Encoding::q4_0: return columns / 32 * 18;
    case Encoding::q4_1: return columns / 32 * 20;
    case Encoding::q8_0: return columns / 32 * 34;
    case Encoding::q6_k: return columns / 256 * 210;
  }
  return 0;
}

// Elements of a block.
constexpr int64_t block_columns(Encoding encoding) {
  switch (encoding) {
    case Encoding::f32:
    case Encoding::f16:
    case Encoding::bf16: return 1;
    case Encoding::q6_k: return 256;
    default: return 32;
  }
}

// Whether an encoding has blocks, and so tiles.
constexpr bool is_packed(Encoding encoding) { return block_columns(encoding) > 1; }

}  // namespace native
