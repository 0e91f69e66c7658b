// Matrices that own their memory, for programs that have no session to own it.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "formats.h"
#include "matrix.h"
#include "tiles.h"

namespace native {

// Memory from the system, in huge pages where it gives them.
class Pages {
 public:
  Pages() = default;
  explicit Pages(size_t bytes) {
    constexpr size_t huge = size_t{2} << 20;
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    bytes_ = (bytes + page - 1) / page * page;
    // Room to begin at a huge page; the rest goes back.
    void* room = mmap(nullptr, bytes_ + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(room);
    const auto start = (address + huge - 1) / huge * huge;
    const size_t before = start - address, after = huge - before;
    if (before > 0) munmap(room, before);
    if (after > 0) munmap(reinterpret_cast<void*>(start + bytes_), after);
    start_ = reinterpret_cast<void*>(start);
#ifdef MADV_HUGEPAGE
    madvise(start_, bytes_ / huge * huge, MADV_HUGEPAGE);
#endif
  }
  Pages(Pages&& other) noexcept : start_(other.start_), bytes_(other.bytes_) { other.start_ = nullptr; }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  Pages& operator=(Pages&&) = delete;
  ~Pages() {
    if (start_ != nullptr) munmap(start_, bytes_);
  }

  uint8_t* data() const { return static_cast<uint8_t*>(start_); }

 private:
  void* start_ = nullptr;
  size_t bytes_ = 0;
};

// The tiles of the bytes of a file, [rows, row_bytes]; none of floats.
inline Pages tiles_of(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t columns) {
  if (!is_packed(encoding)) return {};
  Pages tiles(tile_groups(rows) * tile_group_bytes(encoding, columns));
  pack(encoding, stored, rows, columns, tiles.data());
  return tiles;
}

// A matrix, or a stack of `count`, and its tiles. Floats stay where they are.
struct Packed {
  Pages tiles;
  Matrix matrix;

  Packed(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t columns, int64_t count = 1)
      : tiles(tiles_of(encoding, stored, count * rows, columns)),
        matrix(encoding, is_packed(encoding) ? tiles.data() : stored, rows, columns) {}
};

}  // namespace native
