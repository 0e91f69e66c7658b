// A weight matrix as the kernels read it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace native {

// `[rows, columns]` in one encoding, or a stack of such, in memory of somebody else: of block formats the tiles that
// `pack` makes, of floats the bytes of the file.
class Matrix {
 public:
  // Matrices of a stack follow each other; those in tiles have a multiple of sixteen rows. Throws
  // std::invalid_argument if columns are no whole blocks.
  Matrix(Encoding encoding, const uint8_t* data, int64_t rows, int64_t columns);

  Encoding encoding() const { return encoding_; }
  // Of each matrix.
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  bool packed() const { return packed_; }
  // Tiles, or the rows themselves; of a stack, those of matrix `index`.
  const uint8_t* data(int64_t index = 0) const { return data_ + index * bytes_; }
  // Bytes of sixteen rows.
  int64_t group_bytes() const { return group_bytes_; }

 private:
  Encoding encoding_;
  const uint8_t* data_;
  int64_t rows_, columns_;
  bool packed_;
  int64_t group_bytes_;
  int64_t bytes_;  // from one matrix of a stack to the next
};

}  // namespace native
