#include "matrix.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "formats.h"

namespace native {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int64_t kPieceBytes = 1 << 20;  // of the file, that a thread packs at a time

// Whether memory is a read-only map of a file, so that its pages can be dropped and come back.
bool is_file_map(const void* start, size_t bytes) {
#ifdef __linux__
  const auto first = reinterpret_cast<uintptr_t>(start);
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  if (maps == nullptr) return false;
  bool found = false;
  char line[512];
  while (!found && std::fgets(line, sizeof line, maps) != nullptr) {
    uintptr_t from, to;
    char access[5];
    unsigned long inode;
    if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s %*x %*x:%*x %lu", &from, &to, access, &inode) == 4)
      found = from <= first && first + bytes <= to && access[0] == 'r' && access[1] == '-' && inode != 0;
  }
  std::fclose(maps);
  return found;
#else
  (void)start, (void)bytes;
  return false;
#endif
}

void advise(const uint8_t* start, int64_t bytes, int advice) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(start) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(start) + bytes + page - 1) / page * page;
  madvise(reinterpret_cast<void*>(first), end - first, advice);
}

// Past the caches: what is packed now is read much later.
void write_line(uint8_t* to, const uint8_t* from) {
#ifdef __SSE2__
  for (int i = 0; i < 64; i += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), _mm_load_si128(reinterpret_cast<const __m128i*>(from + i)));
#else
  std::memcpy(to, from, 64);
#endif
}

// Rows `first` to `last`, whose tiles begin at `tiles`; rows beyond the matrix have scales of zero.
template <class Format>
void pack_rows(const uint8_t* stored, int64_t first, int64_t last, int64_t rows, int64_t columns, uint8_t* tiles) {
  using Block = typename Format::Block;
  const auto* all = reinterpret_cast<const Block*>(stored);
  const int64_t blocks = columns / Format::columns;
  constexpr int per_tile = Format::tile_columns / Format::columns;
  alignas(64) typename Format::Tile tile{};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&tile);
  for (int64_t row = first; row < last; row += kLanes) {
    for (int64_t block = 0; block < blocks; block += per_tile) {
      const bool partial = row + kLanes > rows || block + per_tile > blocks;
      if (partial) tile = {};
      for (int b = 0; b < per_tile && block + b < blocks; ++b)
        for (int lane = 0; lane < kLanes && row + lane < rows; ++lane)
          Format::pack(all[(row + lane) * blocks + block + b], b, lane, tile);
      for (size_t line = 0; line < sizeof tile; line += 64) write_line(tiles + line, bytes + line);
      tiles += sizeof tile;
    }
  }
}

}  // namespace

int available_threads() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

Pages::Pages(size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  bytes_ = (bytes + page - 1) / page * page;
  // Room to begin at a huge page, where the system can give out whole ones; the rest goes back.
  void* room = mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<uintptr_t>(room);
  const auto start = (address + kHugePage - 1) / kHugePage * kHugePage;
  const size_t before = start - address, after = kHugePage - before;
  if (before > 0) munmap(room, before);
  if (after > 0) munmap(reinterpret_cast<void*>(start + bytes_), after);
  start_ = reinterpret_cast<void*>(start);
#ifdef MADV_HUGEPAGE
  // Only whole huge pages: a last one that is used in part would be resident in full.
  madvise(start_, bytes_ / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

Pages::~Pages() {
  if (start_ != nullptr) munmap(start_, bytes_);
}

int64_t Matrix::group_bytes() const {
  if (!is_packed(encoding_)) return kLanes * row_bytes(encoding_, columns_);
  const int64_t width = tile_columns(encoding_);
  return tile_bytes(encoding_) * ((columns_ + width - 1) / width);
}

namespace {

int64_t groups_of(int64_t rows) { return (rows + kLanes - 1) / kLanes; }

void check(Encoding encoding, int64_t rows, int64_t bytes_per_row, int64_t columns, int64_t count) {
  const int64_t block = block_columns(encoding);
  if (count < 1 || rows < 1 || columns < 1 || columns % block != 0 || row_bytes(encoding, columns) != bytes_per_row)
    throw std::invalid_argument("a matrix of " + std::to_string(rows) + " x " + std::to_string(columns) +
                                " in encoding " + std::to_string(static_cast<int64_t>(encoding)) + " has rows of " +
                                std::to_string(bytes_per_row) + " bytes, expected " +
                                std::to_string(row_bytes(encoding, columns)));
}

}  // namespace

Matrix::Matrix(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t bytes_per_row, int64_t columns,
               int64_t count)
    : encoding_((check(encoding, rows, bytes_per_row, columns, count), encoding)),
      stored_(stored),
      rows_(rows),
      columns_(columns),
      bytes_(is_packed(encoding) ? groups_of(rows) * group_bytes() : rows * bytes_per_row),
      tiles_(is_packed(encoding) ? Pages(count * bytes_) : Pages()) {
  if (!is_packed(encoding)) return;
  const int64_t groups = groups_of(rows);
  const int64_t step = std::max<int64_t>(1, kPieceBytes / (kLanes * bytes_per_row));
  const int64_t steps = (groups + step - 1) / step, pieces = count * steps;
  const bool release = is_file_map(stored, count * rows * bytes_per_row);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t piece; (piece = next.fetch_add(1)) < pieces;) {
      const int64_t matrix = piece / steps, group = piece % steps * step;
      const int64_t first = group * kLanes, last = std::min(groups, group + step) * kLanes;
      const uint8_t* all = stored + matrix * rows * bytes_per_row;
      const uint8_t* source = all + first * bytes_per_row;
      const int64_t bytes = (std::min(last, rows) - first) * bytes_per_row;
#ifdef MADV_POPULATE_READ
      if (release) advise(source, bytes, MADV_POPULATE_READ);
#endif
      uint8_t* tiles = tiles_.data() + matrix * bytes_ + group * group_bytes();
      BlockFormats::with(encoding, [&](auto format) {
        pack_rows<decltype(format)>(all, first, last, rows, columns, tiles);
      });
      // The file keeps what was read; this process need not hold it beside the tiles.
      if (release) advise(source, bytes, MADV_DONTNEED);
    }
#ifdef __SSE2__
    _mm_sfence();
#endif
  };
  std::vector<std::thread> helpers;
  try {
    for (int64_t i = 1; i < std::min<int64_t>(available_threads(), pieces); ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {  // the system gives no more of them
  }
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace native
