// Gated feed-forward networks, of which the largest logits of a token choose some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels.h"
#include "matrix.h"

namespace native {

// Calls `work(i)` for every i below `total`, on several threads.
using ParallelFor = std::function<void(size_t total, const std::function<void(size_t)>& work)>;

// How a token's experts are weighed.
struct Routing {
  enum class Weights : int64_t { softmax_of_all, softmax_of_chosen, sigmoid };

  int64_t used;  // experts a token
  Weights weights;
  bool normalize;  // whether the weights are divided by their sum
  float scale;     // of the weights
};

// The `used` experts of one token, in ascending order, and their weights. Of equal logits the first is the larger
// one; what is not a number is larger than all, so that it shows in the result.
void choose(const Routing& routing, const float* logits, int64_t experts, int32_t* chosen, float* weights);

// All experts of a layer. Only the matrices of those are read that a token has chosen.
//
// What is summed for a token has one order, whatever tokens are beside it: its experts count in ascending order.
class Mixture {
 public:
  // Stacks of `experts` matrices: gate and up [inner, columns], down [columns, inner].
  Mixture(Matrix gate, Matrix up, Matrix down, int64_t experts, const Routing& routing);

  // x [tokens, columns] and logits [tokens, experts] to y [tokens, columns]. Memory is asked for `ahead` bytes before
  // it is read.
  void compute(const Kernels& kernel, int64_t ahead, const ParallelFor& parallel_for, const float* x,
               const float* logits, int64_t tokens, float* y) const;

 private:
  struct Chosen;
  struct Call;

  Chosen choose_all(const ParallelFor& parallel_for, const float* logits, int64_t tokens) const;
  void add_up(const ParallelFor& parallel_for, const Chosen& chosen, const float* made, int64_t tokens,
              float* y) const;

  Matrix gate_, up_, down_;
  int64_t experts_;
  Routing routing_;
  bool gated_;  // whether gate and up are multiplied together
};

}  // namespace native
