// Measures a mixture of experts by itself, the best table of this processor, beside how fast the memory is read.
//
//   experts_speed [--experts N] [--used N] [--columns N] [--inner N] [--tokens N]
//
// A layer's experts are in memory that no cache holds, and each call chooses others than the ones before it, as the
// layers of a model do. Calls, and passes that read as many bytes and do nothing with them, take turns, so that
// whatever else the machine does takes from both; it only takes away, so rates are upper quartiles.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../src/experts.h"
#include "../src/formats.h"
#include "../src/kernels.h"
#include "../src/matrix.h"
#include "packed.h"

namespace {

using namespace native;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double lower_quartile(std::vector<double> values) {
  const auto place = values.begin() + static_cast<int64_t>(values.size()) / 4;
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

// Threads that wait for work as those of a session do.
class Pool {
 public:
  explicit Pool(unsigned threads) : threads_(threads) {
    for (unsigned i = 1; i < threads; ++i)
      helpers_.emplace_back([this] {
        for (uint64_t seen = 0;;) {
          while (round_.load(std::memory_order_acquire) == seen) {
          }
          ++seen;
          if (work_ == nullptr) return;
          help();
        }
      });
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    work_ = nullptr;
    ++round_;
    for (std::thread& helper : helpers_) helper.join();
  }

  void operator()(size_t total, const std::function<void(size_t)>& work) {
    if (total == 1) return work(0);
    work_ = &work;
    total_ = total;
    next_ = 0;
    done_ = 0;
    ++round_;
    help();
    while (done_.load(std::memory_order_acquire) < threads_) {
    }
  }

 private:
  void help() {
    for (size_t i; (i = next_.fetch_add(1)) < total_;) (*work_)(i);
    ++done_;
  }

  unsigned threads_;
  std::atomic<uint64_t> round_{0};
  std::atomic<size_t> next_{0};
  std::atomic<unsigned> done_{0};
  const std::function<void(size_t)>* work_ = nullptr;
  size_t total_ = 0;
  std::vector<std::thread> helpers_;
};

// ---- what reads and does nothing else ----

using Line = uint64_t __attribute__((vector_size(64)));

std::atomic<uint64_t> sink;

template <int streams, int ahead>
void read(const Line* data, size_t lines) {
  const size_t length = lines / streams;
  Line sums[streams] = {};
  for (size_t i = 0; i < length; ++i) {
    for (int s = 0; s < streams; ++s) {
      const Line* line = data + s * length + i;
      if (ahead > 0) __builtin_prefetch(reinterpret_cast<const char*>(line) + ahead);
      sums[s] += *line;
    }
  }
  uint64_t total = 0;
  for (const Line& sum : sums)
    for (int i = 0; i < 8; ++i) total += sum[i];
  sink += total;
}

// Memory in huge pages, as the kernels' own.
class Lines {
 public:
  explicit Lines(int64_t bytes) : memory_(bytes), size_(bytes / sizeof(Line)) { std::memset(memory_.data(), 1, bytes); }

  const Line* data() const { return reinterpret_cast<const Line*>(memory_.data()); }
  size_t size() const { return size_; }

 private:
  Pages memory_;
  size_t size_;
};

using Reader = void (*)(const Line*, size_t);
constexpr Reader kReaders[] = {read<1, 0>, read<2, 0>, read<4, 0>, read<1, 4096>, read<2, 4096>, read<4, 4096>};

// ---- experts ----

struct Sizes {
  int64_t experts = 128, used = 8, columns = 2048, inner = 768, tokens = 1;  // Qwen3-30B-A3B
};

// Bytes that stand for matrices; scales are small and finite.
std::vector<uint8_t> stored(Encoding encoding, int64_t rows, int64_t columns) {
  std::vector<uint8_t> bytes(rows * row_bytes(encoding, columns));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 2654435761u >> 25 & 0x3b);
  return bytes;
}

Packed stack(Encoding encoding, int64_t experts, int64_t rows, int64_t columns) {
  return Packed(encoding, stored(encoding, experts * rows, columns).data(), rows, columns, experts);
}

void measure(const char* name, Encoding encoding, const Sizes& sizes, Pool& pool, const Lines& buffer) {
  const auto [experts, used, columns, inner, tokens] = sizes;
  const Packed gate = stack(encoding, experts, inner, columns), up = stack(encoding, experts, inner, columns);
  const Packed down = stack(encoding, experts, columns, inner);
  const int64_t groups = (inner + kLanes - 1) / kLanes;
  const int64_t expert_bytes = 2 * groups * gate.matrix.group_bytes() + (columns + kLanes - 1) / kLanes * down.matrix.group_bytes();
  const Mixture mixture(gate.matrix, up.matrix, down.matrix, experts,
                        {used, Routing::Weights::softmax_of_all, true, 1.0f});
  const std::vector<float> x(tokens * columns, 0.37f);
  std::vector<float> y(tokens * columns), logits(tokens * experts);
  const ParallelFor parallel_for = [&](size_t total, const std::function<void(size_t)>& work) { pool(total, work); };

  int64_t next = 0;  // expert
  const auto call = [&] {
    std::fill(logits.begin(), logits.end(), 0.0f);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < used; ++i) logits[t * experts + next++ % experts] = 1.0f;
    const double start = now();
    mixture.compute(kernels(), prefetch_distance(), parallel_for, x.data(), logits.data(), tokens, y.data());
    return now() - start;
  };
  const int64_t bytes = std::min(experts, tokens * used) * expert_bytes;
  const size_t lines = bytes / sizeof(Line), piece = lines / (4 * std::thread::hardware_concurrency()) + 1;
  size_t place = 0;
  const auto pass = [&](Reader reader) {
    place = place + 2 * lines < buffer.size() ? place + lines : 0;
    const double start = now();
    pool((lines + piece - 1) / piece, [&](size_t i) {
      reader(buffer.data() + place + i * piece, std::min(piece, lines - i * piece));
    });
    return now() - start;
  };

  constexpr int kRounds = 300;
  Reader best = nullptr;
  double least = 1e9;
  for (Reader reader : kReaders) {
    std::vector<double> seconds;
    for (int i = 0; i < 30; ++i) seconds.push_back(pass(reader));
    if (lower_quartile(seconds) < least) {
      least = lower_quartile(seconds);
      best = reader;
    }
  }
  std::vector<double> reads, calls;
  for (int i = 0; i < kRounds; ++i) {
    reads.push_back(pass(best));
    calls.push_back(call());
  }
  const double size = static_cast<double>(bytes) / 1e9, rate = size / lower_quartile(calls);
  const double most = size / lower_quartile(reads);
  std::printf("| %s | %.1f | %.1f | %.1f | %.2f |\n", name, size * 1e3, rate, most, rate / most);
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  Sizes sizes;
  const std::pair<const char*, int64_t*> options[] = {{"--experts", &sizes.experts},
                                                      {"--used", &sizes.used},
                                                      {"--columns", &sizes.columns},
                                                      {"--inner", &sizes.inner},
                                                      {"--tokens", &sizes.tokens}};
  for (int i = 1; i < count; i += 2) {
    const auto* option = std::find_if(std::begin(options), std::end(options),
                                      [&](const auto& each) { return std::strcmp(each.first, arguments[i]) == 0; });
    const int64_t value = i + 1 < count ? std::atoll(arguments[i + 1]) : 0;
    if (option == std::end(options) || value < 1) {
      std::fprintf(stderr, "usage: %s [--experts N] [--used N] [--columns N] [--inner N] [--tokens N]\n", arguments[0]);
      return 2;
    }
    *option->second = value;
  }
  Pool pool(std::max(1u, std::thread::hardware_concurrency()));
  const Lines buffer(int64_t{1} << 30);
  std::printf("%s, %u threads; %lld of %lld experts of %lld x %lld a token, %lld tokens\n\n", kernels().name,
              std::thread::hardware_concurrency(), static_cast<long long>(sizes.used),
              static_cast<long long>(sizes.experts), static_cast<long long>(sizes.columns),
              static_cast<long long>(sizes.inner), static_cast<long long>(sizes.tokens));
  std::printf("| | MB a call | GB/s | memory, GB/s | share |\n| --- | --- | --- | --- | --- |\n");
  BlockFormats::for_each([&](auto format) { measure(format.name, format.encoding, sizes, pool, buffer); });
}
