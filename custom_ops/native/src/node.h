// What operators read of their nodes, and how they name what does not fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats.h"
#include "matrix.h"
#include "ort_custom_op.h"
#include "tiles.h"

namespace native {
namespace {

using custom_op::Context;
using custom_op::Info;
using custom_op::InvalidArgument;
using custom_op::Tensor;
using custom_op::Type;

// Beyond what any model has, and far from where sizes that are made of them would overflow.
constexpr int64_t kMostRows = 1 << 30, kMostColumns = 1 << 30, kMostHeadDim = 1 << 16, kMostHeads = 1 << 16;

inline Encoding encoding_attribute(const Info& info, const std::string& name) {
  const auto encoding = static_cast<Encoding>(info.integer(name));
  if (is_known(encoding)) return encoding;
  throw InvalidArgument("no encoding " + std::to_string(static_cast<int64_t>(encoding)));
}

inline int64_t columns_attribute(const Info& info) { return info.integer("columns", 1, kMostColumns); }

inline void expect_count(size_t count, size_t expected, const char* what) {
  if (count != expected)
    throw InvalidArgument("the node has " + std::to_string(count) + " " + what + ", expected " +
                          std::to_string(expected));
}

inline void expect_blocks(Encoding encoding, int64_t columns) {
  if (columns % block_columns(encoding) != 0)
    throw InvalidArgument("rows of " + std::to_string(columns) + " columns are not whole blocks of " +
                          std::to_string(block_columns(encoding)));
}

inline std::string text(const std::vector<int64_t>& shape) {
  std::string all;
  for (const int64_t size : shape) all += (all.empty() ? "" : ", ") + std::to_string(size);
  return "[" + all + "]";
}

// A constant input as a matrix: of block formats the tiles [tile_groups, tile_group_bytes], of floats the bytes of the
// file [rows, row_bytes].
inline Matrix matrix(const Tensor& input, Encoding encoding, int64_t rows, int64_t columns) {
  expect_blocks(encoding, columns);
  // Before anything is made of the sizes: only memory that is there bounds their product.
  const std::vector<int64_t> expected =
      is_packed(encoding) ? std::vector<int64_t>{tile_groups(rows), tile_group_bytes(encoding, columns)}
                          : std::vector<int64_t>{rows, row_bytes(encoding, columns)};
  if (input.shape != expected)
    throw InvalidArgument("the matrix " + text(input.shape) + " of " + std::to_string(rows) + " x " +
                          std::to_string(columns) + " in encoding " + std::to_string(static_cast<int64_t>(encoding)) +
                          " is not " + text(expected));
  const auto* data = input.data<uint8_t>();
  if (is_packed(encoding) && reinterpret_cast<uintptr_t>(data) % kTileAlignment != 0)
    throw InvalidArgument("tiles begin at no multiple of " + std::to_string(kTileAlignment) + " bytes");
  return Matrix(encoding, data, rows, columns);
}

}  // namespace
}  // namespace native
