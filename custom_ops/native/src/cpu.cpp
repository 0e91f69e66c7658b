// Chooses the kernels for the processor at hand, and how far they read ahead.

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace native {

// The build defines NATIVE_* for each table that the compiler could make.
extern const Kernels avx512_kernels, avxvnni_kernels, avx2_kernels, neon_kernels, portable_kernels;

namespace {

struct Candidate {
  const Kernels* kernels;
  bool runs;
};

#if defined(__x86_64__)
bool has_avx2() {
  // Not every compiler's __builtin_cpu_supports knows "f16c", nor "avxvnni" below.
  unsigned eax, ebx, ecx, edx;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

[[maybe_unused]] bool has_avx_vnni() {
  unsigned eax, ebx, ecx, edx;
  return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

[[maybe_unused]] bool has_avx512_vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#elif defined(NATIVE_NEON)
bool has_dot_products() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  int has = 0;
  size_t size = sizeof has;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#else
  return false;
#endif
}
#endif

// All that were built, the best first.
std::vector<Candidate> candidates() {
  return {
#ifdef NATIVE_AVX512
      {&avx512_kernels, has_avx512_vnni()},
#endif
#ifdef NATIVE_AVXVNNI
      {&avxvnni_kernels, has_avx_vnni()},
#endif
#ifdef NATIVE_AVX2
      {&avx2_kernels, has_avx2()},
#endif
#ifdef NATIVE_NEON
      {&neon_kernels, has_dot_products()},
#endif
      {&portable_kernels, true},
  };
}

const Kernels& choose() {
  const char* wanted = std::getenv("PIPELINE_NATIVE_ISA");
  if (wanted == nullptr) return *usable_kernels().front();
  std::string known;
  for (const Candidate& candidate : candidates()) {
    if (std::strcmp(wanted, candidate.kernels->name) == 0) {
      if (candidate.runs) return *candidate.kernels;
      throw std::runtime_error(std::string("PIPELINE_NATIVE_ISA is ") + wanted + ", which this processor lacks");
    }
    known += std::string(known.empty() ? "" : ", ") + candidate.kernels->name;
  }
  throw std::runtime_error(std::string("PIPELINE_NATIVE_ISA is ") + wanted + ", expected one of " + known);
}

constexpr int64_t kMaxPrefetch = 64 << 10;

// Less comes too late, more is lost where threads change. What `speed --prefetch` has measured on which processor
// is in docs/benchmarks.md: 3072 was nowhere far from the best, and 4608 on one processor two thirds of it.
int64_t measured_distance() {
#if defined(__x86_64__)
  unsigned most, name[3];
  __get_cpuid(0, &most, &name[0], &name[2], &name[1]);
  if (std::memcmp(name, "AuthenticAMD", sizeof name) == 0) return 4608;
#endif
  return 3072;
}

int64_t choose_distance() {
  const char* wanted = std::getenv("PIPELINE_NATIVE_PREFETCH");
  if (wanted == nullptr) return measured_distance();
  int64_t distance = 0;
  const char* end = wanted + std::strlen(wanted);
  const auto [rest, error] = std::from_chars(wanted, end, distance);
  if (error == std::errc() && rest == end && rest != wanted && distance >= 0 && distance <= kMaxPrefetch)
    return distance;
  throw std::runtime_error(std::string("PIPELINE_NATIVE_PREFETCH is ") + wanted + ", expected bytes from 0 to " +
                           std::to_string(kMaxPrefetch));
}

}  // namespace

std::vector<const Kernels*> usable_kernels() {
  std::vector<const Kernels*> usable;
  for (const Candidate& candidate : candidates())
    if (candidate.runs) usable.push_back(candidate.kernels);
  return usable;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

int64_t prefetch_distance() {
  static const int64_t chosen = choose_distance();
  return chosen;
}

}  // namespace native
