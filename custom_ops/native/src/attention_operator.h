// The operator `Attention` of the domain `pipelines.native`, in its four kinds.
#pragma once

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels.h"
#include "node.h"
#include "panels.h"

namespace native {

template <Type state, bool rotates>
struct AttentionInputs {
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::float32, state,
                                    state,         Type::int32,   Type::int32,   Type::float32};
};
template <Type state>
struct AttentionInputs<state, true> {
  static constexpr Type inputs[] = {Type::float32, Type::float32, Type::float32, state,        state,
                                    Type::int32,   Type::int32,   Type::float32, Type::float32, Type::float32};
};

// Causal grouped-query attention that appends to its state. Inputs: query [B, S, heads * head_dim], key [B, S,
// kv_heads * head_dim], value [B, S, kv_heads * value_dim], the two halves of the state, [B, kv_heads, capacity,
// head_dim] and [B, kv_heads, capacity, value_dim], past and total [B]; if it rotates, cosines and sines [positions,
// head_dim / 2]; and sinks [heads], or nothing. Row b has total[b] - past[b] tokens; the rest of it is padding.
// Outputs: the mix [B, S, heads * value_dim], and the state, which should be the same memory.
//
// Keys are stored in groups of 16: [capacity / 16][head_dim][16], so that a score is computed in each lane.
template <bool half, bool rotates>
class Attention : public AttentionInputs<half ? Type::float16 : Type::float32, rotates> {
 public:
  static constexpr Type state = half ? Type::float16 : Type::float32;
  static constexpr const char* name = half ? (rotates ? "RotaryAttention" : "Attention")
                                           : (rotates ? "RotaryAttentionFloat32" : "AttentionFloat32");
  static constexpr Type outputs[] = {Type::float32, state, state};
  static constexpr size_t optional_inputs = 1;  // sinks

  explicit Attention(const Info& info)
      : head_dim_(info.integer("head_dim", 2, kMostHeadDim)),
        value_dim_(info.integer("value_dim", 1, kMostHeadDim)),
        scale_(info.number("scale")),
        interleaved_(info.flag("interleaved")),
        window_(info.integer("window", 0, std::numeric_limits<int32_t>::max())),
        cap_(info.number("cap")),
        has_sinks_(info.inputs() == std::size(Attention::inputs)) {
    if (head_dim_ % 2 != 0) throw InvalidArgument("attribute 'head_dim' has to be even");
    if (cap_ < 0) throw InvalidArgument("attribute 'cap' is negative");
    if (!has_sinks_) expect_count(info.inputs(), kSinks, "inputs");
    expect_count(info.outputs(), std::size(outputs), "outputs");
  }

  void compute(Context& context) const {
    Call call = inputs_of(context);
    call.mixed = context.output(0, {call.batch, call.length, call.heads * value_dim_}).template data<float>();
    call.new_keys = continued(context.output(1, context.input(kPastKey).shape), context.input(kPastKey));
    call.new_values = continued(context.output(2, context.input(kPastValue).shape), context.input(kPastValue));
    call.length == 1 ? step(context, call) : read(context, call);
  }

 private:
  static constexpr size_t kQuery = 0, kKey = 1, kValue = 2, kPastKey = 3, kPastValue = 4, kPast = 5, kTotal = 6,
                          kCosines = 7, kSines = 8, kSinks = std::size(Attention::inputs) - 1;

  // What a call is given. Its memory is as the inputs and outputs above.
  struct Call {
    int64_t batch, length;  // sequences, and tokens of each with its padding
    int64_t heads, kv_heads, capacity;
    const float *query, *key, *value;
    const int32_t *past, *total;
    const float *cos = nullptr, *sin = nullptr;
    const float* sinks = nullptr;
    int64_t positions;  // that there is room for, and angles
    float* mixed = nullptr;
    uint8_t *new_keys = nullptr, *new_values = nullptr;

    int64_t tokens(int64_t b) const { return total[b] - past[b]; }
    int64_t group() const { return heads / kv_heads; }
  };

  // One token of each sequence. Where keys are of several spans, each is a task of its own: few heads keep many cores
  // busy.
  void step(Context& context, const Call& call) const {
    const int64_t heads = call.batch * call.kv_heads, group = call.group(), width = stride(value_dim_);
    int64_t spans = 1;
    for (int64_t b = 0; b < call.batch; ++b) {
      const AttentionJob rows = job_of(call, b, 0, 0, 1);
      if (call.tokens(b) > 0) spans = std::max(spans, rows.end_span(0) - rows.first_span(0));
    }
    if (spans == 1) {
      context.parallel_for(heads, [&](size_t i) {
        const int64_t b = i / call.kv_heads, h = i % call.kv_heads;
        append(call, b, h);
        if (call.tokens(b) > 0) attend(call, b, h, 0, 1);
        else pad(call, b, 0, 1);
      });
      return;
    }
    float* mixed = scratch<float, 1>(heads * spans * group * width);
    Share* shares = scratch<Share, 1>(heads * spans * group);
    const auto part = [&](AttentionJob job, int64_t head, int64_t number) {
      job.span = job.first_span(0) + number;
      job.mixed = mixed + (head * spans + number) * group * width;
      job.shares = shares + (head * spans + number) * group;
      return job;
    };
    context.parallel_for(heads * spans, [&](size_t i) {
      const int64_t head = i / spans, b = head / call.kv_heads, h = head % call.kv_heads;
      AttentionJob job = part(job_of(call, b, h, 0, 1), head, i % spans);
      if (call.tokens(b) == 0 || job.span >= job.end_span(0)) return;
      if (job.span == job.end_span(0) - 1) append(call, b, h);  // no other span sees it
      job.queries = rotated_queries(call, b, h, 0, job, scratch<float>(group * stride(head_dim_)));
      kernels().attend(job);
    });
    context.parallel_for(heads, [&](size_t head) {
      const int64_t b = head / call.kv_heads, h = head % call.kv_heads;
      if (call.tokens(b) == 0) return pad(call, b, 0, 1);
      const AttentionJob whole = part(job_of(call, b, h, 0, 1), head, 0);
      for (int64_t number = 1; number < whole.end_span(0) - whole.span; ++number)
        add(part(whole, head, number), whole.mixed, whole.shares);
      finish(call, b, h, 0, whole);
    });
  }

  // Several tokens of each sequence.
  void read(Context& context, const Call& call) const {
    context.parallel_for(call.batch * call.kv_heads,
                         [&](size_t i) { append(call, i / call.kv_heads, i % call.kv_heads); });
    constexpr int64_t kTokens = 16;  // that are attended to at a time; the last ones, which see most, go first
    const int64_t pieces = (call.length + kTokens - 1) / kTokens;
    context.parallel_for(call.batch * call.kv_heads * pieces, [&](size_t i) {
      const int64_t b = i / call.kv_heads % call.batch, h = i % call.kv_heads;
      const int64_t piece = pieces - 1 - static_cast<int64_t>(i) / (call.kv_heads * call.batch);
      const int64_t first = piece * kTokens, end = std::min(call.length, first + kTokens);
      const int64_t last = std::min<int64_t>(end, call.tokens(b));
      if (last > first) attend(call, b, h, first, last);
      if (h == 0 && last < end) pad(call, b, std::max(first, last), end);
    });
  }

  Call inputs_of(Context& context) const {
    const Tensor query = context.input(kQuery), key = context.input(kKey), value = context.input(kValue);
    const Tensor past_key = context.input(kPastKey), past_value = context.input(kPastValue);
    past_key.expect(state);
    past_value.expect(state);
    Call call{};
    call.query = query.data<float>();
    call.key = key.data<float>();
    call.value = value.data<float>();
    call.past = context.input(kPast).template data<int32_t>();
    call.total = context.input(kTotal).template data<int32_t>();
    if (query.shape.size() != 3 || key.shape.size() != 3)
      throw InvalidArgument("query " + text(query.shape) + " and key " + text(key.shape) +
                            " have to be [batch, tokens, heads * head_dim]");
    call.batch = query.shape[0];
    call.length = query.shape[1];
    call.heads = query.shape[2] / head_dim_;
    call.kv_heads = key.shape[2] / head_dim_;
    call.capacity = past_key.shape.size() == 4 ? past_key.shape[2] : 0;
    call.positions = call.capacity;
    const auto rows_of = [&](int64_t width) {
      return std::vector<int64_t>{call.batch, call.length, call.kv_heads * width};
    };
    const auto half_of = [&](int64_t width) {
      return std::vector<int64_t>{call.batch, call.kv_heads, call.capacity, width};
    };
    if (call.kv_heads < 1 || call.heads < 1 || call.heads > kMostHeads || call.heads % call.kv_heads != 0 ||
        query.shape[2] != call.heads * head_dim_ || key.shape != rows_of(head_dim_) ||
        value.shape != rows_of(value_dim_) || past_key.shape != half_of(head_dim_) ||
        past_value.shape != half_of(value_dim_) || call.capacity % kLanes != 0)
      throw InvalidArgument("query " + text(query.shape) + ", key " + text(key.shape) + ", value " + text(value.shape) +
                            " and state " + text(past_key.shape) + ", " + text(past_value.shape) +
                            " do not fit together in heads of " + std::to_string(head_dim_) + " and values of " +
                            std::to_string(value_dim_));
    if constexpr (rotates) add_angles(call, context.input(kCosines), context.input(kSines));
    if (has_sinks_) add_sinks(call, context.input(kSinks));
    check_lengths(call, context.input(kPast), context.input(kTotal));
    return call;
  }

  void add_angles(Call& call, const Tensor& cosines, const Tensor& sines) const {
    if (cosines.shape.size() != 2 || cosines.shape[1] != head_dim_ / 2 || sines.shape != cosines.shape)
      throw InvalidArgument("the tables of cosines " + text(cosines.shape) + " and sines " + text(sines.shape) +
                            " have to be [positions, " + std::to_string(head_dim_ / 2) + "]");
    call.cos = cosines.data<float>();
    call.sin = sines.data<float>();
    call.positions = std::min(call.positions, cosines.shape[0]);
  }

  static void add_sinks(Call& call, const Tensor& sinks) {
    if (sinks.elements() != call.heads)
      throw InvalidArgument("the sinks " + text(sinks.shape) + " have to be those of " + std::to_string(call.heads) +
                            " heads");
    call.sinks = sinks.data<float>();
  }

  static void check_lengths(const Call& call, const Tensor& pasts, const Tensor& totals) {
    if (pasts.elements() != call.batch || totals.elements() != call.batch)
      throw InvalidArgument("lengths " + text(pasts.shape) + " and " + text(totals.shape) + " are not of " +
                            std::to_string(call.batch) + " sequences");
    for (int64_t b = 0; b < call.batch; ++b)
      if (call.past[b] < 0 || call.total[b] < call.past[b] || call.total[b] > call.positions ||
          call.tokens(b) > call.length)
        throw InvalidArgument("a sequence of " + std::to_string(call.past[b]) + " to " +
                              std::to_string(call.total[b]) + " tokens does not fit into " +
                              std::to_string(call.positions) + " positions and rows of " +
                              std::to_string(call.length));
  }

  // The new state, in place if the caller has given both the same memory.
  static uint8_t* continued(const Tensor& state, const Tensor& past) {
    if (state.bytes != past.bytes) std::memcpy(state.bytes, past.bytes, past.elements() * (half ? 2 : 4));
    return static_cast<uint8_t*>(state.bytes);
  }

  // The place of a token's head among all those of query and mix, or with `kv_heads` for `heads` of key and value.
  int64_t place_of(const Call& call, int64_t b, int64_t token, int64_t head, int64_t heads) const {
    return (b * call.length + token) * heads + head;
  }

  // The state of a head, in one of its halves.
  uint8_t* state_of(const Call& call, uint8_t* half_of_all, int64_t width, int64_t b, int64_t kv_head) const {
    return half_of_all + (b * call.kv_heads + kv_head) * call.capacity * width * (half ? 2 : 4);
  }
  uint8_t* keys_of(const Call& call, int64_t b, int64_t kv_head) const {
    return state_of(call, call.new_keys, head_dim_, b, kv_head);
  }
  uint8_t* values_of(const Call& call, int64_t b, int64_t kv_head) const {
    return state_of(call, call.new_values, value_dim_, b, kv_head);
  }

  void rotate(const Call& call, int64_t position, const float* head, float scale, float* rotated) const {
    const int64_t angles = position * (head_dim_ / 2);
    kernels().rotate(head, call.cos + angles, call.sin + angles, head_dim_, interleaved_, scale, rotated);
  }

  static int64_t stride(int64_t width) { return (width + kLanes - 1) / kLanes * kLanes; }

  // Writes the keys and values of a sequence's tokens into the state.
  void append(const Call& call, int64_t b, int64_t kv_head) const {
    float* rotated = scratch<float>(head_dim_);
    uint8_t *keys = keys_of(call, b, kv_head), *values = values_of(call, b, kv_head);
    for (int64_t s = 0; s < call.tokens(b); ++s) {
      const int64_t position = call.past[b] + s, place = place_of(call, b, s, kv_head, call.kv_heads);
      const float* key = call.key + place * head_dim_;
      if (rotates) {
        rotate(call, position, key, 1.0f, rotated);
        key = rotated;
      }
      kernels().append(key, call.value + place * value_dim_, head_dim_, value_dim_, position, half, keys, values);
    }
  }

  // Mixes values for the tokens `first` to `last` of a sequence, in all query heads of a key-value head.
  void attend(const Call& call, int64_t b, int64_t kv_head, int64_t first, int64_t last) const {
    AttentionJob job = job_of(call, b, kv_head, first, last);
    const int64_t query_size = job.rows * stride(head_dim_), mixed_size = job.rows * stride(value_dim_);
    float* queries = scratch<float>(query_size + 2 * mixed_size);
    job.queries = rotated_queries(call, b, kv_head, first, job, queries);
    AttentionJob whole = job;
    whole.mixed = queries + query_size;
    whole.shares = scratch<Share>(2 * job.rows);
    whole.span = job.first_span(0);
    kernels().attend(whole);
    job.mixed = whole.mixed + mixed_size;
    job.shares = whole.shares + job.rows;
    for (job.span = whole.span + 1; job.span < job.end_span(job.rows - 1); ++job.span) {
      kernels().attend(job);
      add(job, whole.mixed, whole.shares);
    }
    finish(call, b, kv_head, first, whole);
  }

  // Those tokens and heads, but for their queries and where results go.
  AttentionJob job_of(const Call& call, int64_t b, int64_t kv_head, int64_t first, int64_t last) const {
    const int64_t group = call.group();
    AttentionJob job{};
    job.keys = keys_of(call, b, kv_head);
    job.values = values_of(call, b, kv_head);
    job.half = half;
    job.rows = static_cast<int>((last - first) * group);
    job.heads = static_cast<int>(group);
    job.head_dim = static_cast<int>(head_dim_);
    job.value_dim = static_cast<int>(value_dim_);
    job.position = call.past[b] + first;
    job.window = window_;
    job.cap = cap_;
    if (call.sinks != nullptr) job.sinks = call.sinks + kv_head * group;
    return job;
  }

  // The head that a row of a job is, whose first token is `first`, among all of query and mix.
  int64_t place_of(const Call& call, int64_t b, int64_t kv_head, int64_t first, const AttentionJob& job, int row) const {
    return place_of(call, b, first + row / job.heads, kv_head * job.heads + row % job.heads, call.heads);
  }

  // Writes the queries of a job, rotated and scaled.
  const float* rotated_queries(const Call& call, int64_t b, int64_t kv_head, int64_t first, const AttentionJob& job,
                               float* queries) const {
    for (int row = 0; row < job.rows; ++row) {
      const float* source = call.query + place_of(call, b, kv_head, first, job, row) * head_dim_;
      float* target = queries + row * stride(head_dim_);
      if (rotates)
        rotate(call, job.position + row / job.heads, source, scale_, target);
      else
        for (int64_t i = 0; i < head_dim_; ++i) target[i] = source[i] * scale_;
    }
    return queries;
  }

  // Adds what the rows of a job have of its span to what they have of those before.
  void add(const AttentionJob& job, float* mixed, Share* shares) const {
    const int64_t width = stride(value_dim_);
    for (int row = 0; row < job.rows; ++row) {
      const float* of_span = job.mixed + row * width;
      if (job.span < job.first_span(row) || job.span >= job.end_span(row)) continue;
      if (job.span > job.first_span(row)) {
        kernels().merge(of_span, job.shares[row], static_cast<int>(width), mixed + row * width, shares[row]);
      } else {
        std::memcpy(mixed + row * width, of_span, width * sizeof(float));
        shares[row] = job.shares[row];
      }
    }
  }

  // Writes what the rows of a job have come to.
  void finish(const Call& call, int64_t b, int64_t kv_head, int64_t first, const AttentionJob& job) const {
    const int64_t width = stride(value_dim_);
    for (int row = 0; row < job.rows; ++row) {
      float* mixed = job.mixed + row * width;
      kernels().normalize(mixed, job.shares[row], static_cast<int>(width));
      std::memcpy(call.mixed + place_of(call, b, kv_head, first, job, row) * value_dim_, mixed,
                  value_dim_ * sizeof(float));
    }
  }

  // What stands for padding, from token `first` to `end`, has no meaning, but it is a number.
  void pad(const Call& call, int64_t b, int64_t first, int64_t end) const {
    std::fill(call.mixed + place_of(call, b, first, 0, call.heads) * value_dim_,
              call.mixed + place_of(call, b, end, 0, call.heads) * value_dim_, 0.0f);
  }

  int64_t head_dim_, value_dim_;  // elements of a query and a key, and of a value
  float scale_;
  bool interleaved_;
  int64_t window_;  // tokens that each token sees; 0 for all before it
  float cap_;       // see AttentionJob
  bool has_sinks_;
};

}  // namespace native
