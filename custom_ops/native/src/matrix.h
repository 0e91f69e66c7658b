// A weight matrix as the kernels read it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace native {

// Threads that this process may keep busy.
int available_threads();

// Memory from the system, which has it back at once when it is freed.
class Pages {
 public:
  Pages() = default;
  explicit Pages(size_t bytes);
  Pages(Pages&& other) noexcept : start_(other.start_), bytes_(other.bytes_) { other.start_ = nullptr; }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  Pages& operator=(Pages&&) = delete;
  ~Pages();

  uint8_t* data() const { return static_cast<uint8_t*>(start_); }

 private:
  void* start_ = nullptr;
  size_t bytes_ = 0;
};

// `[rows, columns]` in one encoding, or a stack of such. Block formats are packed into tiles, in memory of their own;
// float matrices stay where they are.
class Matrix {
 public:
  // Takes the bytes of the file, `[count, rows, row_bytes]`. Throws std::invalid_argument if they do not fit,
  // and std::bad_alloc.
  Matrix(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t bytes_per_row, int64_t columns,
         int64_t count = 1);

  Encoding encoding() const { return encoding_; }
  // Of each matrix.
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  bool packed() const { return tiles_.data() != nullptr; }
  // Tiles, or the rows themselves; of a stack, those of matrix `index`.
  const uint8_t* data(int64_t index = 0) const { return (packed() ? tiles_.data() : stored_) + index * bytes_; }
  // Bytes of sixteen rows.
  int64_t group_bytes() const;

 private:
  Encoding encoding_;
  const uint8_t* stored_;
  int64_t rows_, columns_;
  int64_t bytes_;  // from one matrix of a stack to the next
  Pages tiles_;
};

}  // namespace native
