// The operator `Experts` of the domain `pipelines.native`.
#pragma once

#include <iterator>
#include <utility>
#include <vector>

#include "experts.h"
#include "node.h"

namespace native {

// A mixture of experts. Inputs: x [..., K], the router's logits [..., experts], and three stacks of matrices, see
// `matrix`: gate and up of experts * inner rows and K columns, down of experts * K and `inner`; if `biased`, also what is
// added to their products, [experts, inner] twice and [experts, K].
class Experts {
 public:
  static constexpr const char* name = "Experts";
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::uint8,   Type::uint8,
                                    Type::uint8,   Type::float32, Type::float32, Type::float32};
  static constexpr size_t optional_inputs = 3;  // the biases
  static constexpr Type outputs[] = {Type::float32};

  explicit Experts(const Info& info)
      : columns_(columns_attribute(info)),
        inner_(info.integer("inner", 1, kMostColumns)),
        experts_(info.integer("experts", 1, kMostExperts)),
        biased_(info.flag("biased")),
        mixture_((expect_count(info.inputs(), std::size(inputs) - (biased_ ? 0 : optional_inputs), "inputs"),
                  stack(info, 0, inner_, columns_)),
                 stack(info, 1, inner_, columns_), stack(info, 2, columns_, inner_), experts_, routing(info),
                 {info.number("alpha"), info.number("limit"), info.number("offset")},
                 {bias(info, 0, inner_), bias(info, 1, inner_), bias(info, 2, columns_)}) {
    expect_count(info.outputs(), std::size(outputs), "outputs");
    if (info.number("limit") < 0) throw InvalidArgument("attribute 'limit' is negative");
  }

  void compute(Context& context) const {
    const Tensor x = context.input(0), logits = context.input(1);
    std::vector<int64_t> expected = x.shape;
    if (!expected.empty()) expected.back() = experts_;
    if (x.shape.empty() || x.shape.back() != columns_ || logits.shape != expected)
      throw InvalidArgument("the input " + text(x.shape) + " and logits " + text(logits.shape) + " have not " +
                            std::to_string(columns_) + " columns and a number for each of " +
                            std::to_string(experts_) + " experts");
    const int64_t tokens = x.elements(0, x.shape.size() - 1);
    float* y = context.output(0, x.shape).data<float>();
    const auto parallel_for = [&](size_t total, const std::function<void(size_t)>& work) {
      total == 1 ? work(0) : context.parallel_for(total, work);
    };
    mixture_.compute(kernels(), prefetch_distance(), parallel_for, x.data<float>(), logits.data<float>(), tokens, y);
  }

 private:
  static constexpr int64_t kMostExperts = 1 << 16;

  Matrix stack(const Info& info, size_t index, int64_t rows, int64_t columns) const {
    const Encoding encoding = encoding_attribute(info, "encoding_" + std::to_string(index));
    if (is_packed(encoding) && rows % kLanes != 0)
      throw InvalidArgument("experts of " + std::to_string(rows) + " rows begin within a tile");
    const Matrix all = matrix(info.constant(2 + index), encoding, experts_ * rows, columns);
    return Matrix(encoding, all.data(), rows, columns);
  }

  std::vector<float> bias(const Info& info, size_t index, int64_t rows) const {
    if (!biased_) return {};
    const Tensor given = info.constant(std::size(inputs) - optional_inputs + index);
    if (given.shape != std::vector<int64_t>{experts_, rows})
      throw InvalidArgument("the biases " + text(given.shape) + " are not those of " + std::to_string(experts_) +
                            " experts with " + std::to_string(rows) + " rows");
    const float* values = given.data<float>();
    return {values, values + experts_ * rows};
  }

  Routing routing(const Info& info) const {
    return {info.integer("used", 1, experts_), static_cast<Routing::Weights>(info.integer("routing", 0, 2)),
            info.flag("normalize"), info.number("scale")};
  }

  int64_t columns_, inner_, experts_;
  bool biased_;
  Mixture mixture_;
};

}  // namespace native
