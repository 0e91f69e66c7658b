#include "experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "panels.h"
#include "threads.h"

namespace native {

namespace {

// Of a matrix that a thread takes at a time. Few and large pieces are read fastest; there have to be enough of them that
// no thread waits long for another, and what several panels are multiplied with has to stay in a cache.
constexpr int64_t kLeastBytes = 96 << 10, kCachedBytes = 192 << 10, kPiecesOfThread = 4;

// e^x to 2e-7, as the kernels' own: the same bits everywhere.
float exponential(float x) {
  if (std::isnan(x)) return x;
  if (x < -87.0f) return 0.0f;
  const float bounded = std::min(x, 88.0f);
  const float n = std::nearbyint(bounded * 1.44269504f);
  float r = std::fma(n, -0.693359375f, bounded);
  r = std::fma(n, 2.12194440e-4f, r);
  float y = 1.9875691500e-4f;  // Cephes' expf
  for (const float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = std::fma(y, r, factor);
  return std::ldexp(std::fma(y * r, r, r) + 1.0f, static_cast<int>(n));
}

// Whether no sum over all experts is needed: what it would divide is divided by another sum in the end.
bool weighs_chosen(const Routing& routing) {
  return routing.weights == Routing::Weights::softmax_of_chosen ||
         (routing.weights == Routing::Weights::softmax_of_all && routing.normalize);
}

// The tokens of one expert: those of the rows `first` to `first + count` of a call.
struct Run {
  int64_t expert, first, count;
  size_t panel;  // the first of its panels
};

// Some rows of an expert's matrices, which a thread multiplies.
struct Task {
  const Run* run;
  int64_t first, last;
};

// Asks for what is read first: kernels ask for what lies further ahead.
void ask_for(const uint8_t* start, int64_t bytes) {
  for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(start + line);
}

std::vector<Task> tasks_of(const std::vector<Run>& runs, const Matrix& matrix) {
  static const int threads = available_threads();
  const int64_t groups = (matrix.rows() + kLanes - 1) / kLanes, bytes = groups * matrix.group_bytes();
  const int64_t fair = std::max(kLeastBytes, static_cast<int64_t>(runs.size()) * bytes / (threads * kPiecesOfThread));
  std::vector<Task> tasks;
  for (const Run& run : runs) {
    const int64_t most = run.count > kMaxTokens ? std::min(fair, kCachedBytes) : fair, pieces = (bytes + most - 1) / most;
    // Kernels take groups of rows by twos.
    const int64_t step = ((groups + pieces - 1) / pieces + 1) / 2 * 2 * kLanes;
    for (int64_t first = 0; first < matrix.rows(); first += step)
      tasks.push_back({&run, first, std::min(matrix.rows(), first + step)});
  }
  return tasks;
}

std::vector<int64_t> counts_of(const std::vector<Run>& runs) {
  std::vector<int64_t> counts;
  for (const Run& run : runs) counts.push_back(run.count);
  return counts;
}

}  // namespace

void choose(const Routing& routing, const float* logits, int64_t experts, int32_t* chosen, float* weights) {
  const int64_t used = routing.used;
  int32_t* order = scratch<int32_t>(experts);
  std::iota(order, order + experts, 0);
  const auto larger = [&](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (std::isnan(logits[a]) && !std::isnan(logits[b]));
  };
  std::partial_sort(order, order + used, order + experts,
                    [&](int32_t a, int32_t b) { return larger(a, b) || (!larger(b, a) && a < b); });
  const float top = logits[order[0]];
  float total = 0.0f;
  for (int64_t i = 0; i < used; ++i) {
    const float logit = logits[order[i]];
    weights[i] = routing.weights == Routing::Weights::sigmoid ? 1.0f / (1.0f + exponential(-logit))
                                                              : exponential(logit - top);
    total += weights[i];
  }
  if (routing.weights == Routing::Weights::softmax_of_all && !weighs_chosen(routing)) {
    total = 0.0f;
    for (int64_t i = 0; i < experts; ++i) total += exponential(logits[i] - top);
  }
  const bool divides = routing.normalize || routing.weights != Routing::Weights::sigmoid;
  for (int64_t i = 0; i < used; ++i) weights[i] = (divides ? weights[i] / total : weights[i]) * routing.scale;
  for (int64_t i = 0; i < used; ++i) {  // into ascending order, by insertion
    const int32_t expert = order[i];
    const float weight = weights[i];
    int64_t place = i;
    for (; place > 0 && chosen[place - 1] > expert; --place) {
      chosen[place] = chosen[place - 1];
      weights[place] = weights[place - 1];
    }
    chosen[place] = expert;
    weights[place] = weight;
  }
}

// What a call's tokens have chosen. A row is a token in one of its experts; those of an expert stand together.
struct Mixture::Chosen {
  std::vector<Run> runs;        // of the experts that have any, in ascending order
  std::vector<int64_t> tokens;  // of each row
  std::vector<int64_t> rows;    // of each token, [tokens][used], in the order of its experts
  std::vector<int32_t> experts;  // like rows
  std::vector<float> weights;    // likewise
};

Mixture::Mixture(Matrix gate, Matrix up, Matrix down, int64_t experts, const Routing& routing, const Bounds& bounds,
                 Biases biases)
    : gate_(std::move(gate)),
      up_(std::move(up)),
      down_(std::move(down)),
      experts_(experts),
      routing_(routing),
      bounds_(bounds),
      biases_(std::move(biases)),
      gated_(gate_.packed() && gate_.encoding() == up_.encoding() && bounds_.plain() && biases_.gate.empty()) {}

Mixture::Chosen Mixture::choose_all(const ParallelFor& parallel_for, const float* logits, int64_t tokens) const {
  const int64_t used = routing_.used;
  Chosen all;
  all.tokens.resize(tokens * used);
  all.rows.resize(tokens * used);
  all.weights.resize(tokens * used);
  std::vector<int32_t>& experts = all.experts;
  experts.resize(tokens * used);
  parallel_for(panels_of(tokens), [&](size_t i) {
    const int64_t first = i * kMaxTokens, last = std::min<int64_t>(tokens, first + kMaxTokens);
    for (int64_t t = first; t < last; ++t)
      choose(routing_, logits + t * experts_, experts_, experts.data() + t * used, all.weights.data() + t * used);
  });
  std::vector<int64_t> next(experts_ + 1);  // row of each expert
  for (const int32_t expert : experts) ++next[expert + 1];
  size_t panel = 0;
  for (int64_t expert = 0; expert < experts_; ++expert) {
    const int64_t count = next[expert + 1];
    if (count > 0) all.runs.push_back({expert, next[expert], count, panel});
    panel += panels_of(count);
    next[expert + 1] += next[expert];
  }
  for (int64_t i = 0; i < tokens * used; ++i) {
    all.rows[i] = next[experts[i]]++;
    all.tokens[all.rows[i]] = i / used;
  }
  return all;
}

// What the steps of a call share.
struct Mixture::Call {
  const Kernels& kernel;
  int64_t ahead;
  const ParallelFor& parallel_for;
  const std::vector<Run>& runs;

  // Calls `body` with every run and panel of it, and the first row and the number of rows in that.
  template <class Body>
  void for_each_panel(const Body& body) const {
    struct Part {
      size_t panel;
      int64_t first;
      int count;
    };
    std::vector<Part> parts;
    for (const Run& run : runs)
      for (int64_t row = 0; row < run.count; row += kMaxTokens)
        parts.push_back({run.panel + row / kMaxTokens, run.first + row,
                         static_cast<int>(std::min<int64_t>(kMaxTokens, run.count - row))});
    parallel_for(parts.size(), [&](size_t i) { body(parts[i].panel, parts[i].first, parts[i].count); });
  }

  // A task's products: `rows` are what float matrices are multiplied with, `panels` the same for packed ones.
  void multiply(const Task& task, const Matrix& matrix, const Panels& panels, const float* rows,
                float* results) const {
    const Run& run = *task.run;
    const uint8_t* data = matrix.data(run.expert);
    Output output{results + run.first * matrix.rows(), matrix.rows(), matrix.rows(), nullptr};
    if (!matrix.packed())
      return kernel.float_product(matrix.encoding(), data, ahead, task.first, task.last,
                                  rows + run.first * matrix.columns(), matrix.columns(), run.count, output);
    ask_for(data + task.first / kLanes * matrix.group_bytes(), ahead);
    for (size_t p = run.panel; p < run.panel + panels_of(run.count); ++p) {
      kernel.product(matrix.encoding(), data, ahead, task.first, task.last, panels[p], panels.tokens(p), output);
      output.values += kMaxTokens * output.stride;
    }
  }

  // The same of gate and up: silu(gate x) * (up x).
  void multiply_gated(const Task& task, const Matrix& gate, const Matrix& up, const Panels& panels,
                      float* results) const {
    const Run& run = *task.run;
    Output output{results + run.first * gate.rows(), gate.rows(), gate.rows(), nullptr};
    for (const Matrix* matrix : {&gate, &up})
      ask_for(matrix->data(run.expert) + task.first / kLanes * matrix->group_bytes(), ahead);
    for (size_t p = run.panel; p < run.panel + panels_of(run.count); ++p) {
      kernel.gated_product(gate.encoding(), Gate::silu, gate.data(run.expert), up.data(run.expert), ahead, task.first, task.last,
                           panels[p], panels.tokens(p), output);
      output.values += kMaxTokens * output.stride;
    }
  }
};

void Mixture::compute(const Kernels& kernel, int64_t ahead, const ParallelFor& parallel_for, const float* x,
                      const float* logits, int64_t tokens, float* y) const {
  if (tokens == 0) return;
  const int64_t columns = gate_.columns(), inner = gate_.rows(), rows = tokens * routing_.used;
  const Chosen chosen = choose_all(parallel_for, logits, tokens);
  const Call call{kernel, ahead, parallel_for, chosen.runs};
  const std::vector<int64_t> counts = counts_of(chosen.runs), none{};

  // What comes in, row by row, which is written over by what comes out; then what is inside.
  float* outer = scratch<float>(rows * (columns + (gated_ ? 1 : 2) * inner));
  float* gates = outer + rows * columns;
  float* ups = gates + rows * inner;
  {
    const Panels panels(gate_.packed() || up_.packed() ? counts : none, columns);
    call.for_each_panel([&](size_t panel, int64_t first, int count) {
      float* given = outer + first * columns;
      for (int64_t i = 0; i < count; ++i)
        std::memcpy(given + i * columns, x + chosen.tokens[first + i] * columns, columns * sizeof(float));
      if (panels.size() > 0) kernel.quantize(given, columns, count, panels[panel]);
    });
    const std::vector<Task> tasks = tasks_of(chosen.runs, gate_);
    parallel_for(tasks.size(), [&](size_t i) {
      const Task& task = tasks[i];
      if (gated_) return call.multiply_gated(task, gate_, up_, panels, gates);
      call.multiply(task, gate_, panels, outer, gates);
      call.multiply(task, up_, panels, outer, ups);
      for (int64_t row = task.run->first; row < task.run->first + task.run->count; ++row) {
        const int64_t place = row * inner + task.first;
        const int64_t count = task.last - task.first;
        if (bounds_.plain() && biases_.gate.empty())
          kernel.gate_multiply(Gate::silu, gates + place, ups + place, count);
        else
          gate_rows(task.run->expert, task.first, count, gates + place, ups + place);
      }
    });
  }
  const Panels panels(down_.packed() ? counts : none, inner);
  if (panels.size() > 0)
    call.for_each_panel([&](size_t panel, int64_t first, int count) {
      kernel.quantize(gates + first * inner, inner, count, panels[panel]);
    });
  const std::vector<Task> tasks = tasks_of(chosen.runs, down_);
  parallel_for(tasks.size(), [&](size_t i) { call.multiply(tasks[i], down_, panels, gates, outer); });
  add_up(parallel_for, chosen, outer, tokens, y);
}

void Mixture::gate_rows(int64_t expert, int64_t first, int64_t count, float* gates, const float* ups) const {
  const auto [alpha, limit, offset] = bounds_;
  const bool biased = !biases_.gate.empty();
  const int64_t place = expert * gate_.rows() + first;
  for (int64_t i = 0; i < count; ++i) {
    float g = gates[i] + (biased ? biases_.gate[place + i] : 0.0f), u = ups[i] + (biased ? biases_.up[place + i] : 0.0f);
    if (limit != 0.0f) {  // of what is not a number these make none either
      g = g > limit ? limit : g;
      u = u > limit ? limit : u < -limit ? -limit : u;
    }
    gates[i] = g / (1.0f + exponential(-alpha * g)) * (u + offset);
  }
}

void Mixture::add_up(const ParallelFor& parallel_for, const Chosen& chosen, const float* made, int64_t tokens,
                     float* y) const {
  const int64_t columns = down_.rows(), used = routing_.used;
  parallel_for(panels_of(tokens), [&](size_t part) {
    const int64_t begin = part * kMaxTokens, end = std::min<int64_t>(tokens, begin + kMaxTokens);
    std::fill(y + begin * columns, y + end * columns, 0.0f);
    for (int64_t i = begin * used; i < end * used; ++i) {
      const float* row = made + chosen.rows[i] * columns;
      const float* bias = biases_.down.empty() ? nullptr : biases_.down.data() + chosen.experts[i] * columns;
      float* sums = y + i / used * columns;
      for (int64_t c = 0; c < columns; ++c) sums[c] += chosen.weights[i] * (bias ? row[c] + bias[c] : row[c]);
    }
  });
}

}  // namespace native
