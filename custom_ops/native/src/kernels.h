// What the operators compute with: one table of functions for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace native {

// ggml's number of an encoding; each of those there are is named by its format (formats.h).
enum class Encoding : int64_t {};

constexpr int kLanes = 16;      // rows of a matrix that are computed together
constexpr int kMaxTokens = 16;  // tokens that are
constexpr int kPanelColumns = 128;  // what the columns of panels are rounded up to, so that there are whole tiles

// Up to 16 tokens' activations, quantized in blocks of 32 to `scale * code`, codes from -127 to 127.
// `width` is 1, 2, 4, 8 or 16; tokens that a panel has beyond those of the call are zeros.
struct Panel {
  int width;
  bool leads;        // whether it is the first that the matrix is multiplied with, which brings it into the cache
  int64_t columns;   // K; what follows has room for as many as it is rounded up to, of which those beyond are zeros
  int8_t* codes;     // [K / 4][width][4]
  float* scales;     // [K / 32][width]
  int32_t* sums;     // [K / 32][width], each -8 * the sum of a block's codes
  int32_t* sums_16;  // [K / 16][width], each -32 * the sum of half a block's codes
  float* totals;     // [K / 32][width], each the sum of a block's activations, scale * codes
};

inline int64_t rounded_up(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns * kPanelColumns; }

// Where the products of some rows go. `rows` counts from the first row of the product.
struct Output {
  float* values;  // [tokens][stride]
  int64_t stride;
  int64_t rows;           // of the whole matrix: those beyond are padding
  const float* residual;  // null, or what is added: [tokens][stride]
};

// What the gate of a gated product goes through: silu, or gelu by way of tanh.
enum class Gate : int64_t { silu = 1, gelu = 2 };

// Keys whose softmax is computed by itself. The spans begin at multiples of it, whatever is computed beside them, so
// that they can be computed on different threads and sums still have one order.
constexpr int64_t kSpan = 1024;

// What a row has of the keys of a span, or of several in their order.
struct Share {
  float top;    // the highest score
  float total;  // of the weights, which are relative to it
};

// Some tokens of one sequence and the query heads that share one key-value head, and a span of the keys.
struct AttentionJob {
  const float* queries;  // [rows][head_dim rounded up to 16], rotated and scaled; a row is (token, head)
  float* mixed;          // [rows][value_dim rounded up to 16]: sums of values times weights
  Share* shares;         // [rows]
  const void* keys;      // [capacity / 16][head_dim][16]
  const void* values;    // [capacity][value_dim]
  bool half;             // whether the state is float16; float32 otherwise
  int rows;
  int heads;             // row r belongs to token r / heads
  int head_dim;          // elements of a query, and of a key
  int value_dim;         // elements of a value
  int64_t position;      // of the first token; token i sees keys up to position + i
  int64_t window;        // how many of them, the last ones; 0 for all
  float cap;             // what scores come near and never reach; 0 for no such
  const float* sinks;    // null, or a score of each of `heads` that has a share and no value
  int64_t span;          // which one, from 0

  // The keys that a row sees are those from `first_seen` on, up to `end_seen`.
  int64_t end_seen(int row) const { return position + row / heads + 1; }
  int64_t first_seen(int row) const { return window > 0 && window < end_seen(row) ? end_seen(row) - window : 0; }

  // The spans of these keys, likewise.
  int64_t first_span(int row) const { return first_seen(row) / kSpan; }
  int64_t end_span(int row) const { return (end_seen(row) + kSpan - 1) / kSpan; }
};

struct Kernels {
  const char* name;

  // Makes a panel of `tokens` rows of x, each of `columns` floats.
  void (*quantize)(const float* x, int64_t columns, int tokens, const Panel& panel);

  // y = x / rms(x) * weight, for one row.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t columns, float* y);

  // Rows `first` to `last` (multiples of 16) of a packed matrix times a panel. Here and below, memory is asked
  // for `ahead` bytes before it is read.
  void (*product)(Encoding encoding, const uint8_t* tiles, int64_t ahead, int64_t first, int64_t last,
                  const Panel& panel, int tokens, const Output& output);

  // The same of two matrices, gate and up: by(gate x) * (up x).
  void (*gated_product)(Encoding encoding, Gate by, const uint8_t* gate, const uint8_t* up, int64_t ahead,
                        int64_t first, int64_t last, const Panel& panel, int tokens, const Output& output);

  // Rows `first` to `last` of a float matrix [N][K], as it is stored, times `tokens` rows of x.
  void (*float_product)(Encoding encoding, const uint8_t* matrix, int64_t ahead, int64_t first, int64_t last,
                        const float* x, int64_t columns, int64_t tokens, const Output& output);

  // gate[i] = by(gate[i]) * up[i]
  void (*gate_multiply)(Gate by, float* gate, const float* up, int64_t count);

  // What each row has of the values of a span, if it sees any.
  void (*attend)(const AttentionJob& job);

  // Adds what a row has of a later span to what it has of those before; `width` is a multiple of 16.
  void (*merge)(const float* mixed, const Share& share, int width, float* into, Share& whole);

  // Divides what a row has of all values by the sum of the weights.
  void (*normalize)(float* mixed, const Share& share, int width);

  // Rotates one head by the angles of one position (tables of head_dim / 2), times `scale`.
  void (*rotate)(const float* x, const float* cos, const float* sin, int head_dim, bool interleaved, float scale,
                 float* y);

  // Writes one head of one token into the state.
  void (*append)(const float* key, const float* value, int head_dim, int value_dim, int64_t position, bool half,
                 void* keys, void* values);
};

// The tables that run on this processor, the best first.
std::vector<const Kernels*> usable_kernels();

// The best table for this processor, or the one that PIPELINE_NATIVE_ISA names. Throws
// std::runtime_error if that one is unknown or not for this processor.
const Kernels& kernels();

// How many bytes before it is read memory is best asked for on this processor, or what
// PIPELINE_NATIVE_PREFETCH says. Throws std::runtime_error if that is no such number.
int64_t prefetch_distance();

}  // namespace native
