// Measures the kernels by themselves, the best table of this processor.
//
//   speed
//
// First how fast products with one token go through matrices that no cache holds, on all cores: to be set beside
// the memory's read bandwidth (`python -m benchmarks.bandwidth`). Then what one core computes on data in its cache.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "../src/kernels.h"
#include "../src/matrix.h"
#include "../src/tiles.h"

namespace {

using namespace native;

constexpr int64_t kColumns = 4096;
constexpr int64_t kTaskGroups = 8;  // groups of rows that a thread takes at a time

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

const char* name_of(Encoding encoding) {
  switch (encoding) {
    case Encoding::q4_0: return "q4_0";
    case Encoding::q4_1: return "q4_1";
    case Encoding::q8_0: return "q8_0";
    case Encoding::q6_k: return "q6_k";
    case Encoding::f16: return "f16";
    default: return "f32";
  }
}

// Some tokens' activations, and the memory of their panel.
struct Tokens {
  std::vector<float> values;
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums, sums_16;
  Panel panel;

  explicit Tokens(int width)
      : values(width * kColumns, 0.37f),
        codes(width * kColumns),
        scales(width * kColumns / 32),
        sums(width * kColumns / 32),
        sums_16(width * kColumns / 16) {
    panel = {width, true, kColumns, codes.data(), scales.data(), sums.data(), sums_16.data()};
    kernels().quantize(values.data(), kColumns, width, panel);
  }
};

// Bytes that stand for a matrix; scales are small and finite.
std::vector<uint8_t> stored(Encoding encoding, int64_t rows) {
  std::vector<uint8_t> bytes(rows * row_bytes(encoding, kColumns));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 2654435761u >> 25 & 0x3b);
  return bytes;
}

void compute(const Matrix& matrix, const Tokens& x, int64_t first, int64_t last, float* values) {
  const Output output{values, matrix.rows(), matrix.rows(), nullptr};
  if (matrix.packed())
    kernels().product(matrix.encoding(), matrix.data(), first, last, x.panel, x.panel.width, output);
  else
    kernels().float_product(matrix.encoding(), matrix.data(), first, last, x.values.data(), kColumns, x.panel.width,
                            output);
}

// Calls `work(first, last)` for groups of rows of every matrix in turn, on `threads` threads that wait for each
// other after every matrix, as the operators of a model do. Returns seconds.
template <class Work>
double pass(const std::vector<Matrix>& matrices, int threads, const Work& work) {
  const int64_t groups = matrices[0].rows() / kLanes;
  std::vector<std::atomic<int64_t>> next(matrices.size());
  std::vector<std::atomic<int>> done(matrices.size());
  std::atomic<int> ready{0};
  const auto run = [&] {
    for (++ready; ready < threads;) {
    }
    for (size_t i = 0; i < matrices.size(); ++i) {
      for (int64_t group; (group = next[i].fetch_add(kTaskGroups)) < groups;)
        work(matrices[i], group, std::min(groups, group + kTaskGroups));
      for (++done[i]; done[i] < threads;) {
      }
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < threads; ++i) helpers.emplace_back(run);
  const double start = now();
  run();
  const double seconds = now() - start;
  for (std::thread& helper : helpers) helper.join();
  return seconds;
}

void memory_speed(Encoding encoding) {
  constexpr int64_t rows = 14336;
  constexpr int rounds = 15;
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  const std::vector<uint8_t> bytes = stored(encoding, rows);
  std::vector<std::vector<uint8_t>> copies;  // of floats, which are read where they are
  std::vector<Matrix> matrices;
  const int64_t size = row_bytes(encoding, kColumns);
  for (int i = 0; i < 1 + static_cast<int>((int64_t{1} << 30) / static_cast<int64_t>(bytes.size())); ++i) {
    if (!is_packed(encoding)) copies.push_back(bytes);
    matrices.emplace_back(encoding, is_packed(encoding) ? bytes.data() : copies.back().data(), rows, size, kColumns);
  }
  const Tokens one(1);
  std::vector<float> values(rows);
  const double total = static_cast<double>(matrices.size() * (rows / kLanes) * matrices[0].group_bytes());
  std::vector<double> rates;
  for (int i = 0; i < rounds; ++i) {
    const double s = pass(matrices, threads, [&](const Matrix& matrix, int64_t first, int64_t last) {
      compute(matrix, one, first * kLanes, last * kLanes, values.data());
    });
    rates.push_back(total / s / 1e9);
  }
  std::printf("| %s | %.1f |\n", name_of(encoding), median(rates));
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
  const Matrix matrix(encoding, bytes.data(), rows, row_bytes(encoding, kColumns), kColumns);
  std::printf("| %s |", name_of(encoding));
  for (int width : {1, 2, 4, 8, 16}) {
    const Tokens x(width);
    std::vector<float> values(width * rows);
    const double s = seconds([&] { compute(matrix, x, 0, rows, values.data()); });
    std::printf(" %.0f |", static_cast<double>(rows * kColumns * width) / s / 1e9);
  }
  std::printf("\n");
}

void attention_speed(int head_dim, int rows, int64_t position) {
  const int64_t capacity = (position + rows + kLanes) / kLanes * kLanes;
  const std::vector<uint16_t> keys(capacity * head_dim, 0x2c00), values(capacity * head_dim, 0x2c00);
  const std::vector<float> queries(rows * head_dim, 0.1f);
  std::vector<float> mixed(rows * head_dim);
  const AttentionJob job{queries.data(), mixed.data(), keys.data(), values.data(), true, rows, 4, head_dim, position};
  const double s = seconds([&] { kernels().attend(job); });
  const double pairs = rows * (static_cast<double>(position) + 0.5 * (rows / 4 + 1));
  std::printf("| %d queries of %d on %lld keys | %.0f |\n", rows, head_dim, static_cast<long long>(position),
              2 * pairs * head_dim / s / 1e9);
}

}  // namespace

int main() {
  std::printf("%s\n\n", kernels().name);
  std::printf("| all cores, one token | GB/s |\n| --- | --- |\n");
  for (Encoding e : {Encoding::q4_0, Encoding::q4_1, Encoding::q8_0, Encoding::q6_k, Encoding::f16, Encoding::f32})
    memory_speed(e);
  std::printf("\n| one core, GMAC/s | 1 token | 2 | 4 | 8 | 16 |\n| --- | --- | --- | --- | --- | --- |\n");
  for (Encoding e : {Encoding::q4_0, Encoding::q4_1, Encoding::q8_0, Encoding::q6_k, Encoding::f16, Encoding::f32})
    compute_speed(e);
  std::printf("\n| attention over float16, one core | GMAC/s |\n| --- | --- |\n");
  for (int head_dim : {64, 128}) {
    attention_speed(head_dim, 4, 4000);
    attention_speed(head_dim, 64, 1000);
  }
}
