// What operators read of their nodes, and how they name what does not fit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats.h"
#include "ort_custom_op.h"

namespace native {
namespace {

using custom_op::Context;
using custom_op::Info;
using custom_op::InvalidArgument;
using custom_op::Tensor;
using custom_op::Type;

// Beyond what any model has, and far from where sizes that are made of them would overflow.
constexpr int64_t kMostColumns = 1 << 30, kMostHeadDim = 1 << 16, kMostHeads = 1 << 16;

inline Encoding encoding_attribute(const Info& info, const std::string& name) {
  const auto encoding = static_cast<Encoding>(info.integer(name));
  if (is_known(encoding)) return encoding;
  throw InvalidArgument("no encoding " + std::to_string(static_cast<int64_t>(encoding)));
}

inline int64_t columns_attribute(const Info& info) { return info.integer("columns", 1, kMostColumns); }

inline void expect_count(size_t count, size_t expected, const char* what) {
  if (count != expected)
    throw InvalidArgument("the node has " + std::to_string(count) + " " + what + ", expected " +
                          std::to_string(expected));
}

inline std::string text(const std::vector<int64_t>& shape) {
  std::string all;
  for (const int64_t size : shape) all += (all.empty() ? "" : ", ") + std::to_string(size);
  return "[" + all + "]";
}

}  // namespace
}  // namespace native
