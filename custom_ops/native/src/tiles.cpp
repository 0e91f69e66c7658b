#include "tiles.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "formats.h"
#include "threads.h"

namespace native {

namespace {

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

int64_t tile_groups(int64_t rows) { return (rows + kLanes - 1) / kLanes; }

int64_t tile_group_bytes(Encoding encoding, int64_t columns) {
  const int64_t width = tile_columns(encoding);
  return width == 0 ? 0 : tile_bytes(encoding) * ((columns + width - 1) / width);
}

void pack(Encoding encoding, const uint8_t* stored, int64_t rows, int64_t columns, uint8_t* tiles) {
  const int64_t groups = tile_groups(rows), bytes_per_row = row_bytes(encoding, columns);
  const int64_t step = std::max<int64_t>(1, kPieceBytes / (kLanes * bytes_per_row));
  const int64_t pieces = (groups + step - 1) / step;
  const bool release = is_file_map(stored, rows * bytes_per_row);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t piece; (piece = next.fetch_add(1)) < pieces;) {
      const int64_t group = piece * step;
      const int64_t first = group * kLanes, last = std::min(groups, group + step) * kLanes;
      const uint8_t* source = stored + first * bytes_per_row;
      const int64_t bytes = (std::min(last, rows) - first) * bytes_per_row;
#ifdef MADV_POPULATE_READ
      if (release) advise(source, bytes, MADV_POPULATE_READ);
#endif
      BlockFormats::with(encoding, [&](auto format) {
        pack_rows<decltype(format)>(stored, first, last, rows, columns, tiles + group * tile_group_bytes(encoding, columns));
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
