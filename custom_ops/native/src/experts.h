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

// What an expert makes of gate and up before the last product: g * sigmoid(alpha * g) * (u + offset), g at most `limit` and
// u within it where that is not 0. With no other numbers that is a gate by SiLU.
struct Bounds {
  float alpha = 1.0f, limit = 0.0f, offset = 0.0f;

  bool plain() const { return alpha == 1.0f && limit == 0.0f && offset == 0.0f; }
};

// What is added to the products of each expert: [experts, inner] twice and [experts, columns]; empty for nothing.
struct Biases {
  std::vector<float> gate, up, down;
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
  Mixture(Matrix gate, Matrix up, Matrix down, int64_t experts, const Routing& routing, const Bounds& bounds = {},
          Biases biases = {});

  // x [tokens, columns] and logits [tokens, experts] to y [tokens, columns]. Memory is asked for `ahead` bytes before
  // it is read.
  void compute(const Kernels& kernel, int64_t ahead, const ParallelFor& parallel_for, const float* x,
               const float* logits, int64_t tokens, float* y) const;

  // What goes into the last product of an expert, in some of its rows: in the place of what its first matrix has made.
  void gate_rows(int64_t expert, int64_t first, int64_t count, float* gates, const float* ups) const;

 private:
  struct Chosen;
  struct Call;

  Chosen choose_all(const ParallelFor& parallel_for, const float* logits, int64_t tokens) const;
  void add_up(const ParallelFor& parallel_for, const Chosen& chosen, const float* made, int64_t tokens,
              float* y) const;

  Matrix gate_, up_, down_;
  int64_t experts_;
  Routing routing_;
  Bounds bounds_;
  Biases biases_;
  bool gated_;  // whether gate and up are multiplied together
};

}  // namespace native
