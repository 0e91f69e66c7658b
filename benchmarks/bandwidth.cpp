// Measures how fast all cores together read memory.
//
//     c++ -std=c++17 -O3 -march=native -pthread bandwidth.cpp -o bandwidth
//     bandwidth GIBIBYTES THREADS
//
// Every line on stdin asks for one measurement, which is answered by a line with bytes a second: the
// median of some passes over the buffer. How a core reads fastest differs between machines, so several
// ways are tried at the start, and the best of them is used from then on. (The best of each
// measurement would be too much: the largest of several disturbed figures.)

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>

namespace {

// A cache line; the compiler reads it with the widest loads there are.
using Line = std::uint64_t __attribute__((vector_size(64)));

constexpr std::size_t kLinesAtATime = (4 << 20) / sizeof(Line);  // a thread takes 4 MiB
constexpr int kPasses = 7;

std::atomic<std::uint64_t> sink;  // What was read is used, so that it has to be read.

// Adds up `lines` lines, read from `Streams` places side by side and prefetched `Ahead` bytes ahead.
template <int Streams, int Ahead>
std::uint64_t read(const Line* data, std::size_t lines) {
  const std::size_t length = lines / Streams;
  Line sums[Streams] = {};
  for (std::size_t i = 0; i < length; ++i) {
    for (int stream = 0; stream < Streams; ++stream) {
      const Line* line = data + stream * length + i;
      if (Ahead > 0) __builtin_prefetch(reinterpret_cast<const char*>(line) + Ahead);
      sums[stream] += *line;
    }
  }
  std::uint64_t total = 0;
  for (const Line& sum : sums)
    for (std::size_t i = 0; i < sizeof(Line) / sizeof(sum[0]); ++i) total += sum[i];
  return total;
}

using Reader = std::uint64_t (*)(const Line*, std::size_t);

constexpr Reader kReaders[] = {read<1, 0>,    read<2, 0>,    read<4, 0>,
                               read<1, 4096>, read<2, 4096>, read<4, 4096>};

// Bytes a second of one pass over all of the buffer.
double pass(Reader reader, const Line* data, std::size_t lines, unsigned threads) {
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t first; (first = next.fetch_add(kLinesAtATime)) < lines;)
      sink += reader(data + first, std::min(kLinesAtATime, lines - first));
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return lines * sizeof(Line) / seconds.count();
}

double measure(Reader reader, const Line* data, std::size_t lines, unsigned threads) {
  double rates[kPasses];
  for (double& rate : rates) rate = pass(reader, data, lines, threads);
  std::nth_element(rates, rates + kPasses / 2, rates + kPasses);
  return rates[kPasses / 2];
}

// The way with the best median, the ways taking turns.
Reader best_reader(const Line* data, std::size_t lines, unsigned threads) {
  constexpr std::size_t kWays = sizeof(kReaders) / sizeof(kReaders[0]);
  double rates[kWays][kPasses];
  for (int i = 0; i < kPasses; ++i)
    for (std::size_t way = 0; way < kWays; ++way) rates[way][i] = pass(kReaders[way], data, lines, threads);
  std::size_t best = 0;
  for (std::size_t way = 0; way < kWays; ++way) {
    std::nth_element(rates[way], rates[way] + kPasses / 2, rates[way] + kPasses);
    if (rates[way][kPasses / 2] > rates[best][kPasses / 2]) best = way;
  }
  return kReaders[best];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: bandwidth GIBIBYTES THREADS\n";
    return 2;
  }
  const std::size_t lines = static_cast<std::size_t>(std::atof(argv[1]) * (1 << 30)) / sizeof(Line);
  const unsigned threads = std::atoi(argv[2]);
  constexpr std::size_t kHugePage = 2 << 20;
  const std::size_t bytes = (lines * sizeof(Line) + kHugePage - 1) / kHugePage * kHugePage;
  const std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(kHugePage, bytes),
                                                           &std::free);
  if (!memory) {
    std::cerr << "bandwidth: no memory for " << argv[1] << " GiB\n";
    return 1;
  }
#ifdef MADV_HUGEPAGE
  madvise(memory.get(), bytes, MADV_HUGEPAGE);
#endif
  std::memset(memory.get(), 1, bytes);  // Pages that were never written all read the same one.

  const Line* data = static_cast<const Line*>(memory.get());
  const Reader reader = best_reader(data, lines, threads);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << measure(reader, data, lines, threads) << std::endl;
}
