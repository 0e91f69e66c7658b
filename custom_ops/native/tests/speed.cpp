// Measures the kernels by themselves, the best table of this processor.
//
//   speed [ENCODING...]
//   speed --share [ENCODING...]
//   speed --prefetch BYTES...
//
// First how fast products with one token go through matrices that no cache holds, on all cores: to be set beside
// the memory's read bandwidth (`python -m benchmarks.bandwidth`). Then what one core computes on data in its cache.
//
// With --share one core's products, which take turns with passes over as many bytes that only read them, by the time
// that the thread has had the core: what other programs do with the machine counts little then. A share is the median
// of pairs. Floats are in small pages, which are read more slowly.
//
// With --prefetch the first alone, with memory asked for so many bytes ahead. The distances take turns from matrix
// to matrix, and beside the median stands the upper quartile: whatever else the machine does only takes away.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "../src/formats.h"
#include "../src/kernels.h"
#include "../src/matrix.h"
#include "packed.h"

namespace {

using namespace native;

constexpr int64_t kColumns = 4096;
constexpr int64_t kTaskGroups = 8;  // groups of rows that a thread takes at a time
double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

const char* name_of(Encoding encoding) {
  const char* name = "";
  with_format(encoding, [&](auto format) { name = format.name; });
  return name;
}

// Those of some names, or all there are.
std::vector<Encoding> encodings_of(const std::vector<std::string>& names) {
  std::vector<Encoding> all;
  const auto add = [&](auto format) {
    if (names.empty() || std::find(names.begin(), names.end(), format.name) != names.end())
      all.push_back(format.encoding);
  };
  BlockFormats::for_each(add);
  FloatFormats::for_each(add);
  return all;
}

// Some tokens' activations, and the memory of their panel.
struct Tokens {
  std::vector<float> values;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums, sums_16;
  std::vector<float> totals;
  Panel panel;

  explicit Tokens(int width)
      : values(width * kColumns, 0.37f),
        codes(width * kColumns),
        scales(width * kColumns / 32),
        sums(width * kColumns / 32),
        sums_16(width * kColumns / 16),
        totals(width * kColumns / 32) {
    panel = {width, true, kColumns, codes.data(), scales.data(), sums.data(), sums_16.data(), totals.data()};
    kernels().quantize(values.data(), kColumns, width, panel);
  }
};

// Bytes that stand for a matrix; scales are small and finite. Floats are between 1/16 and 1/8: some processors take
// long for subnormal ones.
std::vector<uint8_t> stored(Encoding encoding, int64_t rows) {
  std::vector<uint8_t> bytes(rows * row_bytes(encoding, kColumns));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 2654435761u >> 25 & 0x3b);
  if (is_packed(encoding)) return bytes;
  const size_t size = row_bytes(encoding, 1);
  for (size_t i = 0; i < bytes.size(); i += size) {
    const uint32_t fraction = bytes[i];
    const uint32_t bits = encoding == Float16::encoding    ? 0x2c00 | fraction << 4
                          : encoding == Bfloat16::encoding ? 0x3d80 | fraction << 1
                                                       : 0x3d800000 | fraction << 17;
    std::memcpy(bytes.data() + i, &bits, size);
  }
  return bytes;
}

void compute(const Matrix& matrix, int64_t ahead, const Tokens& x, int64_t first, int64_t last, float* values) {
  const Output output{values, matrix.rows(), matrix.rows(), nullptr};
  if (matrix.packed())
    kernels().product(matrix.encoding(), matrix.data(), ahead, first, last, x.panel, x.panel.width, output);
  else
    kernels().float_product(matrix.encoding(), matrix.data(), ahead, first, last, x.values.data(), kColumns,
                            x.panel.width, output);
}

// GB/s of a product with one token on all cores, for each of some distances, several times. The threads wait for each
// other after every matrix, as the operators of a model do.
std::vector<std::vector<double>> memory_rates(Encoding encoding, const std::vector<int64_t>& distances) {
  constexpr int64_t rows = 14336, groups = rows / kLanes;
  constexpr int64_t rounds = 15;  // through all matrices with all distances
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  const std::vector<uint8_t> bytes = stored(encoding, rows);
  std::vector<std::vector<uint8_t>> copies;  // of floats, which are read where they are
  std::vector<Packed> matrices;
  const int64_t count = 1 + (int64_t{1} << 30) / static_cast<int64_t>(bytes.size());
  for (int64_t i = 0; i < count; ++i) {
    if (!is_packed(encoding)) copies.push_back(bytes);
    matrices.emplace_back(encoding, is_packed(encoding) ? bytes.data() : copies.back().data(), rows, kColumns);
  }

  const auto ways = static_cast<int64_t>(distances.size()), products = rounds * count * ways;
  const auto way = [&](int64_t i) { return (i % count + i / count) % ways; };  // in each round another for a matrix
  const Tokens one(1);
  std::vector<float> values(rows);
  std::vector<std::atomic<int64_t>> next(products);
  std::vector<std::atomic<int>> done(products);
  std::vector<std::vector<double>> ends(threads, std::vector<double>(products));
  const auto run = [&](int thread) {
    for (int64_t i = 0; i < products; ++i) {
      for (int64_t group; (group = next[i].fetch_add(kTaskGroups)) < groups;)
        compute(matrices[i % count].matrix, distances[way(i)], one, group * kLanes,
                std::min(groups, group + kTaskGroups) * kLanes, values.data());
      ends[thread][i] = now();
      for (++done[i]; done[i] < threads;) {
      }
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(run, i);
  run(0);
  for (std::thread& helper : helpers) helper.join();

  const auto end = [&](int64_t i) {
    double last = 0;
    for (const std::vector<double>& each : ends) last = std::max(last, each[i]);
    return last;
  };
  std::vector<std::vector<double>> rates(ways);
  for (int64_t i = 1; i < products; ++i)
    rates[way(i)].push_back(static_cast<double>(groups * matrices[0].matrix.group_bytes()) / (end(i) - end(i - 1)) / 1e9);
  return rates;
}

void memory_speed(Encoding encoding) {
  std::printf("| %s | %.1f |\n", name_of(encoding), quantile(memory_rates(encoding, {prefetch_distance()})[0], 0.5));
}

void compare_distances(const std::vector<int64_t>& distances) {
  std::printf("GB/s, all cores, one token: median, upper quartile\n\n| |");
  for (const int64_t distance : distances) std::printf(" %lld |", static_cast<long long>(distance));
  std::printf("\n| --- |");
  for (size_t i = 0; i < distances.size(); ++i) std::printf(" --- |");
  for (const Encoding encoding : encodings_of({})) {
    std::printf("\n| %s |", name_of(encoding));
    for (const std::vector<double>& rates : memory_rates(encoding, distances))
      std::printf(" %.1f, %.1f |", quantile(rates, 0.5), quantile(rates, 0.75));
    std::fflush(stdout);
  }
  std::printf("\n");
}

// The best of many runs: others use the core as well.
template <class Work>
double seconds(const Work& work) {
  double best = 1e9;
  for (int i = 0; i < 100; ++i) {
    const double start = now();
    work();
    best = std::min(best, now() - start);
  }
  return best;
}

void compute_speed(Encoding encoding) {
  constexpr int64_t rows = 128;
  const std::vector<uint8_t> bytes = stored(encoding, rows);
  const Packed packed(encoding, bytes.data(), rows, kColumns);
  const Matrix& matrix = packed.matrix;
  std::printf("| %s |", name_of(encoding));
  for (int width : {1, 2, 4, 8, 16}) {
    const Tokens x(width);
    std::vector<float> values(width * rows);
    const double s = seconds([&] { compute(matrix, prefetch_distance(), x, 0, rows, values.data()); });
    std::printf(" %.0f |", static_cast<double>(rows * kColumns * width) / s / 1e9);
  }
  std::printf("\n");
}

double thread_time() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// GB/s of bytes that are read, whole lines, with memory asked for as the kernels do.
double read_rate(const uint8_t* data, int64_t bytes) {
  using Part = uint64_t __attribute__((vector_size(16)));
  const int64_t ahead = prefetch_distance();
  const double start = thread_time();
  Part sums[4] = {};
  for (int64_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(data + line + ahead);
    for (int i = 0; i < 4; ++i) sums[i] += *reinterpret_cast<const Part*>(data + line + 16 * i);
  }
  const Part sum = sums[0] + sums[1] + sums[2] + sums[3];
  volatile uint64_t used = sum[0] + sum[1];
  (void)used;
  return static_cast<double>(bytes) / (thread_time() - start) / 1e9;
}

// The products' and the memory's rates, and the share of the one in the other. Both lie in huge pages.
void share_of_memory(Encoding encoding) {
  constexpr int64_t rows = 16384, piece = 1024;
  const std::vector<uint8_t> bytes = stored(encoding, rows);
  const Packed packed(encoding, bytes.data(), rows, kColumns);
  const Matrix& matrix = packed.matrix;
  const Packed read(encoding, bytes.data(), rows, kColumns);
  const Tokens one(1);
  std::vector<float> values(rows);
  std::vector<double> products, reads, shares;
  for (int64_t i = 0; i < 8 * rows / piece; ++i) {
    const int64_t first = i * piece % rows, at = first / kLanes * matrix.group_bytes();
    const int64_t size = piece / kLanes * matrix.group_bytes();
    reads.push_back(read_rate(read.matrix.data() + at, size));
    const double start = thread_time();
    compute(matrix, prefetch_distance(), one, first, first + piece, values.data());
    products.push_back(static_cast<double>(size) / (thread_time() - start) / 1e9);
    shares.push_back(products.back() / reads.back());
  }
  std::printf("| %s | %.1f | %.1f | %.2f |\n", name_of(encoding), quantile(products, 0.5), quantile(reads, 0.5),
              quantile(shares, 0.5));
}

void attention_speed(int head_dim, int rows, int64_t position) {
  const int64_t capacity = (position + rows + kLanes) / kLanes * kLanes;
  const std::vector<uint16_t> keys(capacity * head_dim, 0x2c00), values(capacity * head_dim, 0x2c00);
  const std::vector<float> queries(rows * head_dim, 0.1f);
  std::vector<float> mixed(rows * head_dim);
  std::vector<Share> shares(rows);
  AttentionJob job{};
  job.queries = queries.data();
  job.mixed = mixed.data();
  job.shares = shares.data();
  job.keys = keys.data();
  job.values = values.data();
  job.half = true;
  job.rows = rows;
  job.heads = 4;
  job.head_dim = job.value_dim = head_dim;
  job.position = position;
  const double s = seconds([&] {
    for (job.span = 0; job.span < job.end_span(rows - 1); ++job.span) kernels().attend(job);
  });
  const double pairs = rows * (static_cast<double>(position) + 0.5 * (rows / 4 + 1));
  std::printf("| %d queries of %d on %lld keys | %.0f |\n", rows, head_dim, static_cast<long long>(position),
              2 * pairs * head_dim / s / 1e9);
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<int64_t> distances;
  const bool compares = count > 2 && std::strcmp(arguments[1], "--prefetch") == 0;
  const bool shares = count > 1 && std::strcmp(arguments[1], "--share") == 0;
  const std::vector<std::string> names(arguments + (compares ? count : shares ? 2 : 1), arguments + count);
  const std::vector<Encoding> encodings = encodings_of(names);
  bool known = names.empty() || encodings.size() == names.size();
  for (int i = 2; compares && i < count; ++i) {
    char* end = nullptr;
    distances.push_back(std::strtoll(arguments[i], &end, 10));
    known = known && end != arguments[i] && *end == '\0' && distances.back() >= 0;
  }
  if (!known) {
    std::fprintf(stderr, "usage: %s [[--share] ENCODING... | --prefetch BYTES...]\n", arguments[0]);
    return 2;
  }
  std::printf("%s\n\n", kernels().name);
  if (!distances.empty()) {
    compare_distances(distances);
    return 0;
  }
  if (shares) {
    std::printf("| one core, one token | GB/s | read, GB/s | share |\n| --- | --- | --- | --- |\n");
    for (const Encoding encoding : encodings) share_of_memory(encoding);
    return 0;
  }
  std::printf("| all cores, one token | GB/s |\n| --- | --- |\n");
  for (const Encoding encoding : encodings) memory_speed(encoding);
  std::printf("\n| one core, GMAC/s | 1 token | 2 | 4 | 8 | 16 |\n| --- | --- | --- | --- | --- | --- |\n");
  for (const Encoding encoding : encodings) compute_speed(encoding);
  if (!names.empty()) return 0;
  std::printf("\n| attention over float16, one core | GMAC/s |\n| --- | --- |\n");
  for (int head_dim : {64, 128}) {
    attention_speed(head_dim, 4, 4000);
    attention_speed(head_dim, 64, 1000);
  }
}
