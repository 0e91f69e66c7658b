// The formats that matrices can have. One that is to be added has a file of its own and a place in the list.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/floats.h"
#include "formats/iq4_nl.h"
#include "formats/iq4_xs.h"
#include "formats/mxfp4.h"
#include "formats/q2_k.h"
#include "formats/q3_k.h"
#include "formats/q4_0.h"
#include "formats/q4_1.h"
#include "formats/q4_k.h"
#include "formats/q5_0.h"
#include "formats/q5_1.h"
#include "formats/q5_k.h"
#include "formats/q6_k.h"
#include "formats/q8_0.h"
#include "kernels.h"

namespace native {
namespace {

template <class... Formats>
struct List {
  static constexpr size_t size = sizeof...(Formats);

  // Calls `body` with each format.
  template <class Body>
  static void for_each(const Body& body) {
    (body(Formats{}), ...);
  }

  // Calls `body` with the format of an encoding, if it is in the list; returns whether it is.
  template <class Body>
  static bool with(Encoding encoding, const Body& body) {
    return ((Formats::encoding == encoding && (body(Formats{}), true)) || ...);
  }
};

using BlockFormats =
    List<Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4>;
using FloatFormats = List<Float16, Bfloat16, Float32>;

// Calls `body` with the format of any encoding; returns whether there is such a format.
template <class Body>
inline bool with_format(Encoding encoding, const Body& body) {
  return BlockFormats::with(encoding, body) || FloatFormats::with(encoding, body);
}

inline bool is_known(Encoding encoding) {
  return with_format(encoding, [](auto) {});
}

// Whether an encoding has blocks, and so tiles.
inline bool is_packed(Encoding encoding) {
  return BlockFormats::with(encoding, [](auto) {});
}

// Elements of a block.
inline int64_t block_columns(Encoding encoding) {
  int64_t columns = 0;
  with_format(encoding, [&](auto format) { columns = format.columns; });
  return columns;
}

// Bytes of a row in the file.
inline int64_t row_bytes(Encoding encoding, int64_t columns) {
  int64_t bytes = 0;
  with_format(encoding, [&](auto format) {
    bytes = columns / format.columns * static_cast<int64_t>(sizeof(typename decltype(format)::Block));
  });
  return bytes;
}

// Columns that a tile has of each row.
inline int64_t tile_columns(Encoding encoding) {
  int64_t columns = 0;
  BlockFormats::with(encoding, [&](auto format) { columns = format.tile_columns; });
  return columns;
}

inline int64_t tile_bytes(Encoding encoding) {
  int64_t bytes = 0;
  BlockFormats::with(encoding, [&](auto format) { bytes = sizeof(typename decltype(format)::Tile); });
  return bytes;
}

}  // namespace
}  // namespace native
