// The activations of a call, quantized for products with packed matrices.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace native {
namespace {

// Memory that a thread uses again from call to call; each purpose has its own.
template <class T, int purpose = 0>
T* scratch(size_t count) {
  thread_local std::vector<T> memory;
  if (memory.size() < count) memory.resize(count);
  return memory.data();
}

inline int panel_width(int64_t tokens) {
  int width = 1;
  while (width < kMaxTokens && width < tokens) width *= 2;
  return width;
}

inline int64_t panels_of(int64_t tokens) { return (tokens + kMaxTokens - 1) / kMaxTokens; }

// The activations of a call, in panels of up to 16 tokens. Those of several calls lie in the same memory: the ones
// made last are good.
class Panels {
 public:
  Panels(int64_t tokens, int64_t columns) : Panels(std::vector<int64_t>{tokens}, columns) {}

  // Of tokens that are multiplied with one matrix after the other, some with each: no panel has tokens of two.
  Panels(const std::vector<int64_t>& runs, int64_t columns) {
    const int64_t padded = rounded_up(columns);
    int64_t width = 0;
    for (const int64_t tokens : runs) {
      for (int64_t first = 0; first < tokens; first += kMaxTokens) {
        tokens_.push_back(static_cast<int>(std::min<int64_t>(kMaxTokens, tokens - first)));
        panels_.push_back({panel_width(tokens_.back()), first == 0, columns, {}, {}, {}, {}, {}});
        width += panels_.back().width;
      }
    }
    struct alignas(64) Line {
      uint8_t bytes[64];
    };
    // Codes, then scales, sums, sums of half blocks, and totals.
    auto* at = reinterpret_cast<uint8_t*>(scratch<Line>(width * padded * 13 / 8 / 64 + 5 * panels_.size()));
    const auto take = [&](int64_t bytes) {
      uint8_t* taken = at;
      at += (bytes + 63) / 64 * 64;
      return taken;
    };
    for (Panel& panel : panels_) {
      panel.codes = reinterpret_cast<int8_t*>(take(padded * panel.width));
      panel.scales = reinterpret_cast<float*>(take(padded / 8 * panel.width));
      panel.sums = reinterpret_cast<int32_t*>(take(padded / 8 * panel.width));
      panel.sums_16 = reinterpret_cast<int32_t*>(take(padded / 4 * panel.width));
      panel.totals = reinterpret_cast<float*>(take(padded / 8 * panel.width));
    }
  }

  size_t size() const { return panels_.size(); }
  const Panel& operator[](size_t i) const { return panels_[i]; }
  int tokens(size_t i) const { return tokens_[i]; }

 private:
  std::vector<int> tokens_;
  std::vector<Panel> panels_;
};

}  // namespace
}  // namespace native
