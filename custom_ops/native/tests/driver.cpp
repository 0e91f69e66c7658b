// Compares all kernels that run on this processor with plain scalar arithmetic, over random shapes and values.
//
//   driver [--seed N] [--cases N] [--fuzz SECONDS]
//
// Case i of every check is made from seed N + i, the same for every table of kernels; a failure names the seed
// that repeats it. With --fuzz, cases go on until the time is up. All tables have to agree to the last bit; the digest
// of what they agree on is there to be compared between machines, with equal seeds and one standard library.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "blocks.h"
#include "decode.h"
#include "experts.h"
#include "formats.h"
#include "fused.h"
#include "kernels.h"
#include "matrix.h"
#include "packed.h"
#include "tiles.h"

namespace {

using namespace native;
using reference::Block;
using reference::from_half;
using reference::halves_of;
using reference::row_of;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kUntouched = -12345.0f;  // what stands where nothing may be written
constexpr int64_t kAhead = 4608;         // how far memory is asked for, which goes beyond the end of every matrix
constexpr Encoding kPacked[] = {Q4_0::encoding, Q4_1::encoding,   Q5_0::encoding,   Q5_1::encoding, Q8_0::encoding,
                                Q2_K::encoding, Q3_K::encoding,   Q4_K::encoding,   Q5_K::encoding, Q6_K::encoding,
                                IQ4_NL::encoding, IQ4_XS::encoding, MXFP4::encoding};
static_assert(std::size(kPacked) == BlockFormats::size);
constexpr Encoding kFloats[] = {Float32::encoding, Float16::encoding, Bfloat16::encoding};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t integer(int64_t first, int64_t last) { return std::uniform_int_distribution<int64_t>(first, last)(engine_); }
  bool chance(double probability) { return std::bernoulli_distribution(probability)(engine_); }
  float normal() { return std::normal_distribution<float>()(engine_); }
  template <class T, size_t n>
  T pick(const T (&choices)[n]) {
    return choices[integer(0, n - 1)];
  }

 private:
  std::mt19937_64 engine_;
};

// ---- what is expected ----

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  message.precision(9);
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

bool same_bits(float a, float b) { return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof a) == 0; }

template <class... Place>
void expect_same(float actual, float expected, const Place&... place) {
  if (!same_bits(actual, expected)) fail(place..., ": ", actual, ", expected exactly ", expected);
}

// `bound` is how far off a finite value may be; what is not finite has to be the same.
template <class... Place>
void expect_near(float actual, double expected, double bound, const Place&... place) {
  const bool near = std::isnan(expected)   ? std::isnan(actual)
                    : std::isinf(expected) ? actual == expected
                                           : std::fabs(actual - expected) <= bound;
  if (!near) fail(place..., ": ", actual, ", expected ", expected, " +- ", bound);
}

// ---- float16 ----

uint16_t to_half(double value) {
  if (std::isnan(value)) return 0x7e00;
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double magnitude = std::fabs(value);
  if (magnitude >= 65520) return sign | 0x7c00;
  const int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  const auto fraction = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return static_cast<uint16_t>(sign | ((exponent + 14) * 1024 + fraction));
}

void put_half(double value, uint8_t* bytes) {
  const uint16_t half = to_half(value);
  std::memcpy(bytes, &half, sizeof half);
}

// The value of an element of a float matrix; bfloat16 is the upper half of a float.
double element_at(Encoding encoding, const uint8_t* bytes) {
  if (encoding == Float16::encoding) return from_half(bytes);
  uint8_t wide[4] = {};
  const size_t size = row_bytes(encoding, 1);
  std::memcpy(wide + 4 - size, bytes, size);
  float value;
  std::memcpy(&value, wide, sizeof value);
  return value;
}

// ---- random values ----

enum class Kind { plain, zeros, subnormal, extreme, edges_of_half, not_finite };

Kind random_kind(Random& random) {
  constexpr Kind kinds[] = {Kind::plain,     Kind::plain,   Kind::plain,         Kind::zeros,
                            Kind::subnormal, Kind::extreme, Kind::edges_of_half, Kind::not_finite};
  return random.pick(kinds);
}

float not_finite(Random& random) {
  constexpr float values[] = {kNaN, HUGE_VALF, -HUGE_VALF};
  return random.pick(values);
}

// At or beside the middle between two float16s, of any magnitude.
float edge_of_half(Random& random) {
  const auto bits = static_cast<uint16_t>(random.integer(0, 0x7bff));
  uint8_t bytes[2];
  std::memcpy(bytes, &bits, sizeof bytes);
  const double below = from_half(bytes), step = std::ldexp(1.0, std::max(bits >> 10, 1) - 25);
  const auto middle = static_cast<float>(below + step / 2);
  const float values[] = {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, HUGE_VALF)};
  return random.pick(values) * (random.chance(0.5) ? 1.0f : -1.0f);
}

std::vector<float> random_floats(Random& random, int64_t count, Kind kind) {
  std::vector<float> values(count);
  const double factor = kind == Kind::subnormal ? 1e-39 : kind == Kind::extreme ? 1e4 : 1.0;
  for (float& value : values) {
    value = static_cast<float>(random.normal() * factor);
    if (kind == Kind::extreme && random.chance(0.3)) value = value < 0 ? -3e4f : 3e4f;
    if (kind == Kind::zeros && random.chance(0.9)) value = 0.0f;
    if (kind == Kind::edges_of_half) value = edge_of_half(random);
    if (kind == Kind::not_finite && random.chance(0.02)) value = not_finite(random);
  }
  if (kind == Kind::zeros && random.chance(0.5)) std::fill(values.begin(), values.end(), 0.0f);
  return values;
}

double random_scale(Random& random, Kind kind) {
  switch (kind) {
    case Kind::zeros: return random.chance(0.5) ? 0.0 : random.normal();
    case Kind::subnormal: return random.normal() * 0x1p-20;
    case Kind::extreme: return random.chance(0.5) ? 65504.0 : random.normal() * 1000;
    case Kind::not_finite: return random.chance(0.05) ? not_finite(random) : random.normal();
    default: return random.normal();
  }
}

// The bytes of one block, in the order of the file.
void put_block(Random& random, Encoding encoding, Kind kind, uint8_t* block) {
  const int64_t bytes = row_bytes(encoding, block_columns(encoding));
  constexpr uint8_t extremes[] = {0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0};
  const uint8_t extreme = random.pick(extremes);
  for (int64_t i = 0; i < bytes; ++i)
    block[i] = kind == Kind::extreme ? extreme : static_cast<uint8_t>(random.integer(0, 255));
  switch (encoding) {
    case Float32::encoding: {
      const float value = random_floats(random, 1, kind)[0];
      std::memcpy(block, &value, sizeof value);
      break;
    }
    case Bfloat16::encoding: {
      const float value = random_floats(random, 1, kind)[0];
      std::memcpy(block, reinterpret_cast<const uint8_t*>(&value) + 2, 2);
      break;
    }
    case MXFP4::encoding: {  // an exponent, of products that are finite in float32
      block[0] = static_cast<uint8_t>(kind == Kind::subnormal ? random.integer(0, 20) : random.integer(90, 160));
      break;
    }
    default:
      for (const int place : halves_of(encoding)) put_half(random_scale(random, kind), block + place);
  }
}

std::vector<uint8_t> random_matrix(Random& random, Encoding encoding, int64_t rows, int64_t columns, Kind kind) {
  const int64_t block = row_bytes(encoding, block_columns(encoding));
  std::vector<uint8_t> bytes(rows * row_bytes(encoding, columns));
  for (size_t i = 0; i < bytes.size(); i += block) put_block(random, encoding, kind, bytes.data() + i);
  return bytes;
}

int64_t random_columns(Random& random, Encoding encoding) {
  const int64_t block = block_columns(encoding);
  if (block == 1) return random.integer(1, 200);
  if (block > 32) return block * random.integer(1, 3);
  return block * random.integer(1, random.chance(0.2) ? 32 : 9);
}

// ---- weights ----

// A packed matrix in memory of its exact size, so that sanitizers see what reads beyond it.
struct Weights {
  Encoding encoding;
  int64_t rows, columns;
  std::vector<std::vector<Block>> blocks;
  std::vector<uint8_t> tiles;

  Weights(Random& random, Encoding encoding, int64_t rows, int64_t columns, Kind kind)
      : encoding(encoding), rows(rows), columns(columns) {
    const std::vector<uint8_t> stored = random_matrix(random, encoding, rows, columns, kind);
    const int64_t bytes = row_bytes(encoding, columns);
    for (int64_t row = 0; row < rows; ++row) blocks.push_back(row_of(encoding, stored.data() + row * bytes, columns));
    const Pages packed = tiles_of(encoding, stored.data(), rows, columns);
    tiles.assign(packed.data(), packed.data() + tile_groups(rows) * tile_group_bytes(encoding, columns));
  }
};

// ---- activations ----

int panel_width(int64_t tokens) {
  int width = 1;
  while (width < tokens) width *= 2;
  return width;
}

// A panel and its memory. `values` holds its tokens, one row each.
struct Activations {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums, sums_16;
  std::vector<float> totals;
  Panel panel;

  Activations(int width, int64_t columns) {
    const int64_t padded = rounded_up(columns);
    codes.assign(padded * width, 99);
    scales.assign(padded / 32 * width, kUntouched);
    sums.assign(padded / 32 * width, 99);
    sums_16.assign(padded / 16 * width, 99);
    totals.assign(padded / 32 * width, kUntouched);
    panel = {width,        width > 4,   columns,        codes.data(),
             scales.data(), sums.data(), sums_16.data(), totals.data()};
  }

  Activations(const std::vector<float>& values, int64_t columns, int width) : Activations(width, columns) {
    const int64_t tokens = static_cast<int64_t>(values.size()) / columns;
    for (int64_t block = 0; block < rounded_up(columns) / 32; ++block) {
      for (int64_t t = 0; t < width; ++t) {
        float x[32] = {};
        for (int64_t i = 0; t < tokens && i < 32 && block * 32 + i < columns; ++i)
          x[i] = values[t * columns + block * 32 + i];
        float largest = 0;
        for (const float value : x)
          if (!(std::fabs(value) <= largest) && !std::isnan(largest)) largest = std::fabs(value);
        const bool nothing = largest < 1e-36f, usable = !nothing && std::isfinite(largest);
        int halves[2] = {};
        for (int i = 0; i < 32; ++i) {
          const float scaled = usable ? x[i] * (127.0f / largest) : 0.0f;
          const auto code = static_cast<int8_t>(std::nearbyint(scaled));
          codes[(block * 8 + i / 4) * 4 * width + 4 * t + i % 4] = code;
          halves[i / 16] += code;
        }
        scales[block * width + t] = nothing ? 0.0f : largest / 127.0f;
        sums[block * width + t] = -8 * (halves[0] + halves[1]);
        totals[block * width + t] = scales[block * width + t] * static_cast<float>(halves[0] + halves[1]);
        for (int half = 0; half < 2; ++half) sums_16[(2 * block + half) * width + t] = -32 * halves[half];
      }
    }
  }

  int code(int64_t token, int64_t column) const {
    return codes[column / 4 * 4 * panel.width + 4 * token + column % 4];
  }
};

struct Sum {
  double value = 0, magnitude = 0;

  void add(double term) {
    value += term;
    magnitude += std::fabs(term);
  }
};

Sum dot(const std::vector<Block>& row, const Activations& x, int64_t token) {
  Sum sum;
  for (size_t b = 0; b < row.size(); ++b) {
    int64_t products = 0, offsets = 0;
    for (int i = 0; i < 32; ++i) {
      const int code = x.code(token, b * 32 + i);
      products += int64_t{row[b].codes[i]} * code;
      offsets += int64_t{row[b].times[i / 16]} * code;
    }
    const double scale = x.scales[b * x.panel.width + token];
    sum.add(row[b].scale * scale * static_cast<double>(products));
    sum.add(row[b].offset * scale * static_cast<double>(offsets));
  }
  return sum;
}

std::vector<float> row_at(const std::vector<float>& rows, int64_t row, int64_t columns) {
  return {rows.begin() + row * columns, rows.begin() + (row + 1) * columns};
}

// e^-x is at most e^88 in the kernels.
double activated(Gate by, double x) {
  const double exponent = by == Gate::silu ? x : 2 * std::sqrt(2 / 3.14159265358979324) * (x + 0.044715 * x * x * x);
  return x / (1 + std::min(std::exp(-exponent), std::exp(88.0)));
}
double bound(Gate by, double expected, double up) {
  // The exponent of gelu is rounded, and is up to 88.
  return (by == Gate::silu ? 1e-6 : 3e-5) * std::fabs(expected) + 1e-30 * std::fabs(up) + 1e-37;
}
Gate random_gate(Random& random) { return random.chance(0.5) ? Gate::silu : Gate::gelu; }

// ---- one random case of each function; what it computes, for comparison with other tables ----

using Result = std::vector<float>;

Result check_quantize(const Kernels& kernels, Random& random) {
  const int64_t columns = 32 * random.integer(1, 9);
  const int tokens = static_cast<int>(random.integer(1, kMaxTokens)), width = panel_width(tokens);
  const std::vector<float> x = random_floats(random, tokens * columns, random_kind(random));
  Activations made(width, columns);
  const Activations expected(x, columns, width);
  kernels.quantize(x.data(), columns, tokens, made.panel);
  if (made.codes != expected.codes) fail("codes of ", tokens, " x ", columns);
  if (made.sums != expected.sums || made.sums_16 != expected.sums_16) fail("sums of ", tokens, " x ", columns);
  for (size_t i = 0; i < made.scales.size(); ++i) expect_same(made.scales[i], expected.scales[i], "scale ", i);
  for (size_t i = 0; i < made.totals.size(); ++i) expect_same(made.totals[i], expected.totals[i], "total ", i);
  return made.scales;
}

Result check_rms_norm(const Kernels& kernels, Random& random) {
  const int64_t columns = random.integer(1, 200);
  const std::vector<float> x = random_floats(random, columns, random_kind(random));
  const std::vector<float> weight = random_floats(random, columns, Kind::plain);
  Result y(columns);
  kernels.rms_norm(x.data(), weight.data(), 1e-5f, columns, y.data());
  double squares = 0;
  for (const float value : x) squares += double{value} * value;
  const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-5);
  for (int64_t i = 0; i < columns; ++i) {
    const double expected = x[i] * factor * weight[i];
    expect_near(y[i], expected, 1e-6 * std::fabs(expected) + 1e-37, "element ", i, " of ", columns);
  }
  return y;
}

// The product of the first `rows` rows, in two calls, with some memory behind each token's values.
Result multiply(const Kernels& kernels, const Weights& w, const Weights* up, const Activations& x, int tokens,
                const std::vector<float>* residual, int64_t stride, int64_t cut, Gate by = Gate::silu) {
  Result y(tokens * stride, kUntouched);
  const Output output{y.data(), stride, w.rows, residual != nullptr ? residual->data() : nullptr};
  for (const auto& [first, last] : {std::pair{int64_t{0}, cut}, std::pair{cut, w.rows}}) {
    if (up != nullptr)
      kernels.gated_product(w.encoding, by, w.tiles.data(), up->tiles.data(), kAhead, first, last, x.panel, tokens,
                            output);
    else
      kernels.product(w.encoding, w.tiles.data(), kAhead, first, last, x.panel, tokens, output);
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t i = w.rows; i < stride; ++i) expect_same(y[t * stride + i], kUntouched, "behind token ", t);
  return y;
}

int64_t random_cut(Random& random, int64_t rows) { return random.integer(0, (rows - 1) / kLanes) * kLanes; }

// A token's results must not depend on where in a panel it stands and what stands beside it.
void check_alone(const Kernels& kernels, Random& random, const Weights& w, const Weights* up,
                 const std::vector<float>& token, const float* expected, Gate by = Gate::silu) {
  for (int width = 1; width <= kMaxTokens; width *= 2) {
    const int64_t tokens = random.integer(width / 2 + 1, width), place = random.integer(0, tokens - 1);
    std::vector<float> x = random_floats(random, tokens * w.columns, random_kind(random));
    std::copy(token.begin(), token.end(), x.begin() + place * w.columns);
    const Result y = multiply(kernels, w, up, Activations(x, w.columns, width), static_cast<int>(tokens), nullptr,
                              w.rows, random_cut(random, w.rows), by);
    for (int64_t row = 0; row < w.rows; ++row)
      expect_same(y[place * w.rows + row], expected[row], "row ", row, " of a panel of ", width);
  }
}

Result check_product(const Kernels& kernels, Random& random, Encoding encoding) {
  const int64_t rows = random.integer(1, 100), columns = random_columns(random, encoding);
  const int64_t tokens = random.integer(1, random.chance(0.5) ? 40 : 4), stride = rows + random.integer(0, 3);
  const Weights w(random, encoding, rows, columns, random_kind(random));
  const std::vector<float> x = random_floats(random, tokens * columns, random_kind(random));
  const std::vector<float> added = random_floats(random, kMaxTokens * stride, Kind::plain);
  const auto* residual = random.chance(0.5) ? &added : nullptr;
  Result results;
  for (int64_t first = 0; first < tokens; first += kMaxTokens) {
    const auto count = static_cast<int>(std::min<int64_t>(kMaxTokens, tokens - first));
    const std::vector<float> some(x.begin() + first * columns, x.begin() + (first + count) * columns);
    const Activations panel(some, columns, panel_width(count));
    const Result y = multiply(kernels, w, nullptr, panel, count, residual, stride, random_cut(random, rows));
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t row = 0; row < rows; ++row) {
        Sum expected = dot(w.blocks[row], panel, t);
        if (residual != nullptr) expected.add(added[t * stride + row]);
        expect_near(y[t * stride + row], expected.value, 1e-5 * expected.magnitude + 1e-33, "row ", row, " of ", rows,
                    " x ", columns, ", token ", first + t, " of ", tokens);
      }
    }
    results.insert(results.end(), y.begin(), y.end());
  }
  const std::vector<float> token = row_at(x, random.integer(0, tokens - 1), columns);
  const Result alone = multiply(kernels, w, nullptr, Activations(token, columns, 1), 1, nullptr, rows, 0);
  check_alone(kernels, random, w, nullptr, token, alone.data());
  return results;
}

Result check_gated_product(const Kernels& kernels, Random& random) {
  const Encoding encoding = random.pick(kPacked);
  const int64_t rows = random.integer(1, 50), columns = random_columns(random, encoding);
  const auto tokens = static_cast<int>(random.integer(1, kMaxTokens));
  const Weights gate(random, encoding, rows, columns, random_kind(random));
  const Weights up(random, encoding, rows, columns, random_kind(random));
  const std::vector<float> x = random_floats(random, tokens * columns, random_kind(random));
  const Activations panel(x, columns, panel_width(tokens));
  const int64_t cut = random_cut(random, rows);
  const Gate by = random_gate(random);
  const Result y = multiply(kernels, gate, &up, panel, tokens, nullptr, rows, cut, by);
  const Result gates = multiply(kernels, gate, nullptr, panel, tokens, nullptr, rows, cut);
  const Result ups = multiply(kernels, up, nullptr, panel, tokens, nullptr, rows, cut);
  for (size_t i = 0; i < y.size(); ++i) {
    const double expected = activated(by, gates[i]) * ups[i];
    expect_near(y[i], expected, bound(by, expected, ups[i]), "gate ", gates[i], ", up ", ups[i]);
  }
  const int64_t token = random.integer(0, tokens - 1);
  check_alone(kernels, random, gate, &up, row_at(x, token, columns), y.data() + token * rows, by);
  return y;
}

Result check_float_product(const Kernels& kernels, Random& random, Encoding encoding) {
  const int64_t rows = random.integer(1, 100), columns = random_columns(random, encoding);
  const int64_t tokens = random.integer(1, random.chance(0.1) ? 70 : 20), stride = rows + random.integer(0, 3);
  const std::vector<uint8_t> matrix = random_matrix(random, encoding, rows, columns, random_kind(random));
  const std::vector<float> x = random_floats(random, tokens * columns, random_kind(random));
  const std::vector<float> added = random_floats(random, tokens * stride, Kind::plain);
  const float* residual = random.chance(0.5) ? added.data() : nullptr;
  Result y(tokens * stride, kUntouched);
  const Output output{y.data(), stride, rows, residual};
  const int64_t cut = random.integer(0, rows);
  kernels.float_product(encoding, matrix.data(), kAhead, 0, cut, x.data(), columns, tokens, output);
  kernels.float_product(encoding, matrix.data(), kAhead, cut, rows, x.data(), columns, tokens, output);
  const int64_t bytes = row_bytes(encoding, 1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t t = 0; t < tokens; ++t) {
      Sum expected;
      for (int64_t i = 0; i < columns; ++i) {
        const uint8_t* element = matrix.data() + (row * columns + i) * bytes;
        expected.add(element_at(encoding, element) * x[t * columns + i]);
      }
      if (residual != nullptr) expected.add(residual[t * stride + row]);
      expect_near(y[t * stride + row], expected.value, 1e-5 * expected.magnitude + 1e-33, "row ", row, " of ", rows,
                  " x ", columns, ", token ", t, " of ", tokens);
    }
  }
  const int64_t token = random.integer(0, tokens - 1);
  Result alone(stride, kUntouched);
  const Output one{alone.data(), stride, rows, residual == nullptr ? nullptr : residual + token * stride};
  kernels.float_product(encoding, matrix.data(), kAhead, 0, rows, x.data() + token * columns, columns, 1, one);
  for (int64_t i = 0; i < stride; ++i) expect_same(alone[i], y[token * stride + i], "row ", i, " of a token alone");
  return y;
}

Result check_gate_multiply(const Kernels& kernels, Random& random) {
  const int64_t count = random.integer(0, 100);
  const std::vector<float> gate = random_floats(random, count, random_kind(random));
  const std::vector<float> up = random_floats(random, count, random_kind(random));
  Result y = gate;
  for (float& value : y) value *= 10.0f;
  const Result before = y;
  const Gate by = random_gate(random);
  kernels.gate_multiply(by, y.data(), up.data(), count);
  for (int64_t i = 0; i < count; ++i) {
    const double expected = activated(by, before[i]) * up[i];
    expect_near(y[i], expected, bound(by, expected, up[i]), "gate ", before[i], ", up ", up[i]);
  }
  return y;
}

Result check_rotate(const Kernels& kernels, Random& random) {
  const int pairs = static_cast<int>(random.integer(1, 64)), head_dim = 2 * pairs;
  const bool interleaved = random.chance(0.5);
  const float scale = random.normal();
  const std::vector<float> x = random_floats(random, head_dim, random_kind(random));
  std::vector<float> cos, sin;
  for (int i = 0; i < pairs; ++i) {
    const double angle = random.normal() * 100;
    cos.push_back(static_cast<float>(std::cos(angle)));
    sin.push_back(static_cast<float>(std::sin(angle)));
  }
  Result y(head_dim);
  kernels.rotate(x.data(), cos.data(), sin.data(), head_dim, interleaved, scale, y.data());
  for (int i = 0; i < pairs; ++i) {
    const int first = interleaved ? 2 * i : i, second = interleaved ? first + 1 : i + pairs;
    const double real = x[first], imaginary = x[second];
    const double bound = 1e-6 * std::fabs(scale) * (std::fabs(real) + std::fabs(imaginary)) + 1e-37;
    expect_near(y[first], (real * cos[i] - imaginary * sin[i]) * scale, bound, "element ", first, " of ", head_dim);
    expect_near(y[second], (real * sin[i] + imaginary * cos[i]) * scale, bound, "element ", second, " of ", head_dim);
  }
  return y;
}

// One head's keys or values, in either type.
class State {
 public:
  State(int64_t capacity, int width, bool keys, bool half)
      : width_(width), keys_(keys), half_(half), bytes_(capacity * width * (half ? 2 : 4)) {
    for (int64_t position = 0; position < capacity; ++position)
      for (int d = 0; d < width; ++d) set(position, d, kNaN);
  }

  void* data() { return bytes_.data(); }
  void set(int64_t position, int d, float value) {
    if (half_) put_half(value, at(position, d));
    else std::memcpy(at(position, d), &value, sizeof value);
  }
  float get(int64_t position, int d) {
    if (half_) return static_cast<float>(from_half(at(position, d)));
    float value;
    std::memcpy(&value, at(position, d), sizeof value);
    return value;
  }
  std::vector<float> all() {
    std::vector<float> values;
    for (int64_t i = 0; i < static_cast<int64_t>(bytes_.size()) / (half_ ? 2 : 4) / width_; ++i)
      for (int d = 0; d < width_; ++d) values.push_back(get(i, d));
    return values;
  }

 private:
  uint8_t* at(int64_t position, int d) {
    const int64_t element = keys_ ? (position / kLanes * width_ + d) * kLanes + position % kLanes
                                  : position * width_ + d;
    return bytes_.data() + element * (half_ ? 2 : 4);
  }

  int width_;
  bool keys_, half_;
  std::vector<uint8_t> bytes_;
};

int64_t round_up(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

int random_head_dim(Random& random) {
  constexpr int common[] = {16, 32, 64, 80, 96, 128};
  return random.chance(0.5) ? random.pick(common) : static_cast<int>(2 * random.integer(1, 64));
}

int random_value_dim(Random& random, int head_dim) {
  return random.chance(0.5) ? head_dim : static_cast<int>(random.integer(1, 128));
}

Result check_append(const Kernels& kernels, Random& random) {
  const int head_dim = random_head_dim(random), value_dim = random_value_dim(random, head_dim);
  const int64_t position = random.integer(0, 100);
  const bool half = random.chance(0.5);
  const std::vector<float> key = random_floats(random, head_dim, random_kind(random));
  const std::vector<float> value = random_floats(random, value_dim, random_kind(random));
  State keys(round_up(position + 1), head_dim, true, half), values(round_up(position + 1), value_dim, false, half);
  State expected_keys = keys, expected_values = values;
  for (int d = 0; d < head_dim; ++d) expected_keys.set(position, d, key[d]);
  for (int d = 0; d < value_dim; ++d) expected_values.set(position, d, value[d]);
  kernels.append(key.data(), value.data(), head_dim, value_dim, position, half, keys.data(), values.data());
  Result result = keys.all(), expected = expected_keys.all();
  const Result more = values.all(), expected_more = expected_values.all();
  result.insert(result.end(), more.begin(), more.end());
  expected.insert(expected.end(), expected_more.begin(), expected_more.end());
  for (size_t i = 0; i < result.size(); ++i)
    expect_same(result[i], expected[i], "element ", i, " of the state, position ", position, ", sizes ", head_dim, " and ",
                value_dim);
  return result;
}

// What the rows of a job come to: each span by itself, one after the other added.
void attend_to_all(const Kernels& kernels, AttentionJob job) {
  const int64_t width = round_up(job.value_dim);
  std::vector<float> part(job.rows * width, kUntouched);
  std::vector<Share> shares(job.rows), whole(job.rows);
  float* mixed = job.mixed;
  job.mixed = part.data();
  job.shares = shares.data();
  for (job.span = job.first_span(0); job.span < job.end_span(job.rows - 1); ++job.span) {
    kernels.attend(job);
    for (int row = 0; row < job.rows; ++row) {
      if (job.span == job.first_span(row)) {
        std::copy_n(job.mixed + row * width, width, mixed + row * width);
        whole[row] = shares[row];
      } else if (job.span > job.first_span(row) && job.span < job.end_span(row)) {
        kernels.merge(job.mixed + row * width, shares[row], static_cast<int>(width), mixed + row * width, whole[row]);
      }
    }
  }
  for (int row = 0; row < job.rows; ++row)
    kernels.normalize(mixed + row * width, whole[row], static_cast<int>(width));
}

Result check_attend(const Kernels& kernels, Random& random) {
  const int head_dim = random_head_dim(random), value_dim = random_value_dim(random, head_dim);
  const int heads = static_cast<int>(random.integer(1, 8));
  const int tokens = static_cast<int>(random.integer(1, random.chance(0.5) ? 1 : 16)), rows = tokens * heads;
  const int64_t far = random.chance(0.2) ? 3 * kSpan : 700;
  const int64_t position = random.integer(0, random.chance(0.3) ? far : 40), end = position + tokens;
  const int64_t query_stride = round_up(head_dim), stride = round_up(value_dim);
  const int64_t capacity = round_up(end) + kLanes * random.integer(0, 1);
  const bool half = random.chance(0.5);
  const Kind kind = random.chance(0.1) ? Kind::not_finite : Kind::plain;
  const bool sharp = kind == Kind::plain && random.chance(0.2);

  std::vector<float> queries(rows * query_stride, kNaN);
  for (int row = 0; row < rows; ++row) {
    const std::vector<float> query = random_floats(random, head_dim, Kind::plain);
    for (int d = 0; d < head_dim; ++d)
      queries[row * query_stride + d] = query[d] * (sharp ? 3.0f : 1.0f / std::sqrt(static_cast<float>(head_dim)));
  }
  if (kind == Kind::not_finite) queries[random.integer(0, rows - 1) * query_stride] = not_finite(random);

  // What is beyond `end` was never written. Within, rows that do not see a value still multiply it by zero.
  const int64_t window = random.chance(0.5) ? random.integer(1, random.chance(0.5) ? 20 : 1200) : 0;
  State keys(capacity, head_dim, true, half), values(capacity, value_dim, false, half);
  for (int64_t i = 0; i < end; ++i) {
    const bool seen_by_all = i <= position && (window == 0 || i >= end - window);
    const auto element = [&] {
      const bool odd = kind == Kind::not_finite && seen_by_all && random.chance(0.1 / static_cast<double>(end));
      return odd ? not_finite(random) : random.normal();
    };
    for (int d = 0; d < head_dim; ++d) keys.set(i, d, element());
    for (int d = 0; d < value_dim; ++d) values.set(i, d, element());
  }

  Result mixed(rows * stride, kUntouched);
  AttentionJob job{};
  job.queries = queries.data();
  job.mixed = mixed.data();
  job.keys = keys.data();
  job.values = values.data();
  job.half = half;
  job.rows = rows;
  job.heads = heads;
  job.head_dim = head_dim;
  job.value_dim = value_dim;
  job.position = position;
  job.window = window;
  if (random.chance(0.3)) job.cap = static_cast<float>(random.integer(1, 50));
  std::vector<float> sinks(heads);
  for (float& sink : sinks) sink = random.normal();
  if (random.chance(0.3)) job.sinks = sinks.data();
  attend_to_all(kernels, job);

  for (int row = 0; row < rows; ++row) {
    const int64_t seen = position + row / heads + 1;
    const int64_t start = job.window > 0 ? std::max<int64_t>(0, seen - job.window) : 0;
    std::vector<double> weights(seen);
    double top = -kInfinity, largest = 0;
    for (int64_t i = start; i < seen; ++i) {
      Sum score;
      for (int d = 0; d < head_dim; ++d) score.add(double{queries[row * query_stride + d]} * keys.get(i, d));
      if (job.cap > 0) score.value = job.cap * std::tanh(score.value / job.cap);
      weights[i] = score.value;
      if (!(score.value <= top)) top = score.value;
      largest = std::max(largest, score.magnitude);
    }
    if (job.sinks != nullptr && !(sinks[row % heads] <= top)) top = sinks[row % heads];
    double total = job.sinks != nullptr ? std::exp(sinks[row % heads] - top) : 0;
    for (int64_t i = start; i < seen; ++i) total += weights[i] = std::exp(weights[i] - top);
    for (int d = 0; d < value_dim; ++d) {
      Sum expected;
      for (int64_t i = start; i < seen; ++i) expected.add(weights[i] / total * values.get(i, d));
      // A score that is infinite leaves nothing to sums that are zero.
      const double bound = expected.magnitude == 0 ? 0 : (1e-5 + 1e-6 * largest) * expected.magnitude;
      expect_near(mixed[row * stride + d], expected.value, bound + 1e-33,
                  "element ", d, " of ", value_dim, ", row ", row, " of ", rows, ", ", heads, " heads, position ",
                  position, half ? ", float16" : ", float32");
    }
  }

  // Each row alone, and the tokens from some one on.
  const auto check_part = [&](int first, int count, int part_heads, int64_t part_position) {
    Result part(count * stride, kUntouched);
    AttentionJob some = job;
    some.queries = queries.data() + first * query_stride;
    some.mixed = part.data();
    some.rows = count;
    some.heads = part_heads;
    if (job.sinks != nullptr) some.sinks = job.sinks + first % heads;
    some.position = part_position;
    attend_to_all(kernels, some);
    for (int row = 0; row < count; ++row)
      for (int d = 0; d < value_dim; ++d)
        expect_same(part[row * stride + d], mixed[(first + row) * stride + d], "element ", d, " of row ", first + row,
                    " of ", rows, ", computed with ", count, ", position ", position);
  };
  for (int i = 0; i < 3; ++i) {
    const int row = static_cast<int>(random.integer(0, rows - 1));
    check_part(row, 1, 1, position + row / heads);
  }
  const int cut = static_cast<int>(random.integer(0, tokens - 1));
  check_part(cut * heads, rows - cut * heads, heads, position + cut);

  Result result;  // without what is behind each row
  for (int row = 0; row < rows; ++row)
    result.insert(result.end(), mixed.begin() + row * stride, mixed.begin() + row * stride + value_dim);
  return result;
}

// ---- experts ----

Routing random_routing(Random& random, int64_t experts) {
  return {random.integer(1, experts), static_cast<Routing::Weights>(random.integer(0, 2)), random.chance(0.5),
          random.normal()};
}

// The experts of a token by sorting, and their weights in float64.
std::vector<std::pair<int32_t, double>> chosen_by_sorting(const Routing& routing, const std::vector<float>& logits) {
  std::vector<std::pair<int32_t, double>> all;
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({static_cast<int32_t>(i), logits[i]});
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  const double top = all[0].second;
  double whole = 0;
  for (const float logit : logits) whole += std::exp(logit - top);
  all.resize(routing.used);
  double sum = 0;
  for (auto& [expert, weight] : all) {
    weight = routing.weights == Routing::Weights::sigmoid ? 1 / (1 + std::exp(-weight)) : std::exp(weight - top);
    if (routing.weights == Routing::Weights::softmax_of_all) weight /= whole;
    sum += weight;
  }
  const bool divides = routing.normalize || routing.weights == Routing::Weights::softmax_of_chosen;
  for (auto& [expert, weight] : all) weight *= routing.scale / (divides ? sum : 1.0);
  std::sort(all.begin(), all.end());
  return all;
}

void check_choose(Random& random) {
  const int64_t experts = random.integer(1, 200);
  const Routing routing = random_routing(random, experts);
  std::vector<float> logits = random_floats(random, experts, Kind::plain);
  for (float& logit : logits) logit = random.chance(0.5) ? std::nearbyint(4 * logit) : 10 * logit;  // some are equal
  std::vector<int32_t> chosen(routing.used);
  std::vector<float> weights(routing.used);
  choose(routing, logits.data(), experts, chosen.data(), weights.data());
  const auto expected = chosen_by_sorting(routing, logits);
  for (int64_t i = 0; i < routing.used; ++i) {
    if (chosen[i] != expected[i].first) fail("expert ", chosen[i], ", expected ", expected[i].first);
    const double bound = 1e-5 * std::fabs(expected[i].second) + 1e-36;
    expect_near(weights[i], expected[i].second, bound, "weight of expert ", chosen[i], " of ", experts);
  }
  for (float& logit : logits)
    if (random.chance(0.3)) logit = not_finite(random);
  choose(routing, logits.data(), experts, chosen.data(), weights.data());
  for (int64_t i = 0; i < routing.used; ++i)
    if (chosen[i] < (i > 0 ? chosen[i - 1] + 1 : 0) || chosen[i] >= experts) fail("expert ", chosen[i], " of ", experts);
}

// A stack of matrices, and each of them as a matrix of its own.
struct Stack {
  std::vector<uint8_t> stored;
  Packed all;
  std::vector<Packed> single;

  Stack(Random& random, Encoding encoding, int64_t count, int64_t rows, int64_t columns)
      : stored(random_matrix(random, encoding, count * rows, columns, Kind::plain)),
        all(encoding, stored.data(), rows, columns, count) {
    const int64_t bytes = row_bytes(encoding, columns);
    for (int64_t i = 0; i < count; ++i)
      single.emplace_back(encoding, stored.data() + i * rows * bytes, rows, columns);
  }
};

std::vector<float> product_of_token(const Kernels& kernels, const Matrix& matrix, const std::vector<float>& x) {
  std::vector<float> y(matrix.rows());
  const Output output{y.data(), matrix.rows(), matrix.rows(), nullptr};
  if (!matrix.packed())
    kernels.float_product(matrix.encoding(), matrix.data(), kAhead, 0, matrix.rows(), x.data(), matrix.columns(), 1,
                          output);
  else
    kernels.product(matrix.encoding(), matrix.data(), kAhead, 0, matrix.rows(),
                    Activations(x, matrix.columns(), 1).panel, 1, output);
  return y;
}

// What each token comes to alone, by products with matrices that are no stacks, to the last bit.
Result check_mixture(const Kernels& kernels, Random& random) {
  const auto encoding = [&] { return random.chance(0.4) ? random.pick(kFloats) : random.pick(kPacked); };
  const Encoding gate_encoding = encoding(), up_encoding = random.chance(0.7) ? gate_encoding : encoding();
  const Encoding down_encoding = encoding();
  // Columns of some matrices, in whole blocks, and rows of others, which have sixteen or a multiple in tiles.
  const auto size = [&](std::initializer_list<Encoding> by_row, std::initializer_list<Encoding> by_column) {
    int64_t block = 1;
    for (const Encoding each : by_row) block = std::max(block, block_columns(each));
    for (const Encoding each : by_column) block = std::max<int64_t>(block, is_packed(each) ? kLanes : 1);
    return block * random.integer(1, std::max<int64_t>(2, 100 / block));
  };
  const int64_t columns = size({gate_encoding, up_encoding}, {down_encoding});
  const int64_t inner = size({down_encoding}, {gate_encoding, up_encoding});
  const int64_t experts = random.integer(1, 6), tokens = random.integer(1, random.chance(0.3) ? 60 : 5);
  const Routing routing = random_routing(random, experts);
  Stack gate(random, gate_encoding, experts, inner, columns), up(random, up_encoding, experts, inner, columns);
  Stack down(random, down_encoding, experts, columns, inner);
  const std::vector<float> x = random_floats(random, tokens * columns, Kind::plain);
  const std::vector<float> logits = random_floats(random, tokens * experts, Kind::plain);
  Bounds bounds;
  Biases biases;
  if (random.chance(0.3)) bounds = {1.702f, random.chance(0.5) ? 0.5f : 0.0f, 1.0f};
  if (random.chance(0.3))
    biases = {random_floats(random, experts * inner, Kind::plain), random_floats(random, experts * inner, Kind::plain),
              random_floats(random, experts * columns, Kind::plain)};
  const Mixture mixture(gate.all.matrix, up.all.matrix, down.all.matrix, experts, routing, bounds, biases);
  const ParallelFor one_by_one = [](size_t total, const std::function<void(size_t)>& work) {
    for (size_t i = total; i-- > 0;) work(i);
  };
  Result y(tokens * columns, kUntouched);
  mixture.compute(kernels, kAhead, one_by_one, x.data(), logits.data(), tokens, y.data());
  for (int64_t t = 0; t < tokens; ++t) {
    const std::vector<float> token = row_at(x, t, columns);
    std::vector<int32_t> chosen(routing.used);
    std::vector<float> weights(routing.used), sums(columns);
    choose(routing, logits.data() + t * experts, experts, chosen.data(), weights.data());
    for (int64_t i = 0; i < routing.used; ++i) {
      std::vector<float> gates = product_of_token(kernels, gate.single[chosen[i]].matrix, token);
      std::vector<float> ups = product_of_token(kernels, up.single[chosen[i]].matrix, token);
      if (biases.gate.empty() && bounds.plain()) {
        kernels.gate_multiply(Gate::silu, gates.data(), ups.data(), inner);
      } else {
        const std::vector<float> before = gates;
        mixture.gate_rows(chosen[i], 0, inner, gates.data(), ups.data());
        for (int64_t r = 0; r < inner; ++r) {
          const bool biased = !biases.gate.empty();
          double g = before[r], u = ups[r];
          if (biased) g += biases.gate[chosen[i] * inner + r], u += biases.up[chosen[i] * inner + r];
          if (bounds.limit != 0) g = std::min<double>(g, bounds.limit), u = std::clamp<double>(u, -bounds.limit, bounds.limit);
          const double made = g / (1 + std::exp(-bounds.alpha * g)) * (u + bounds.offset);
          expect_near(gates[r], made, 1e-5 * std::fabs(made) + 1e-6, "row ", r, " of a gate");
        }
      }
      std::vector<float> made = product_of_token(kernels, down.single[chosen[i]].matrix, gates);
      if (!biases.down.empty())
        for (int64_t c = 0; c < columns; ++c) made[c] += biases.down[chosen[i] * columns + c];
      for (int64_t c = 0; c < columns; ++c) sums[c] += weights[i] * made[c];
    }
    for (int64_t c = 0; c < columns; ++c)
      expect_same(y[t * columns + c], sums[c], "column ", c, " of token ", t, " of ", tokens, ", ", routing.used,
                  " of ", experts, " experts");
  }
  return y;
}

// ---- what is the same for all tables ----

// Read-only maps of files are read ahead and given back while they are packed.
class FileMap {
 public:
  explicit FileMap(const std::vector<uint8_t>& bytes) : bytes_(bytes.size()) {
    std::FILE* file = std::tmpfile();
    if (file == nullptr || std::fwrite(bytes.data(), 1, bytes_, file) != bytes_ || std::fflush(file) != 0)
      fail("no temporary file");
    start_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, fileno(file), 0);
    std::fclose(file);
    if (start_ == MAP_FAILED) fail("no map of a file");
  }
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap() { munmap(start_, bytes_); }

  const uint8_t* data() const { return static_cast<const uint8_t*>(start_); }

 private:
  void* start_;
  size_t bytes_;
};

void check_packing(Random& random) {
  const Encoding encoding = random.pick(kPacked);
  const int64_t rows = random.integer(1, 100), columns = random_columns(random, encoding);
  const std::vector<uint8_t> stored = random_matrix(random, encoding, rows, columns, random_kind(random));
  const FileMap file(stored);
  const Pages tiles = tiles_of(encoding, stored.data(), rows, columns), mapped = tiles_of(encoding, file.data(), rows, columns);
  if (std::memcmp(file.data(), stored.data(), stored.size()) != 0) fail("the file is another one");
  if (std::memcmp(tiles.data(), mapped.data(), tile_groups(rows) * tile_group_bytes(encoding, columns)) != 0)
    fail("a file is packed otherwise: ", rows, " x ", columns);
  for (const int64_t wrong : {columns - 1, columns + 1}) {
    bool thrown = false;
    try {
      Matrix(encoding, tiles.data(), rows, wrong);
    } catch (const std::invalid_argument&) {
      thrown = true;
    }
    if (!thrown) fail(wrong, " columns are taken for whole blocks");
  }
}

void check_decode_row(Random& random) {
  const Encoding encoding = random.chance(0.3) ? random.pick(kFloats) : random.pick(kPacked);
  const int64_t columns = random_columns(random, encoding);
  const std::vector<uint8_t> row = random_matrix(random, encoding, 1, columns, random_kind(random));
  std::vector<float> values(columns);
  decode_row(encoding, row.data(), columns, values.data());
  if (encoding == Float32::encoding) {
    if (std::memcmp(values.data(), row.data(), row.size()) != 0) fail("float32 is another");
    return;
  }
  const std::vector<Block> blocks = is_packed(encoding) ? row_of(encoding, row.data(), columns) : std::vector<Block>();
  for (int64_t i = 0; i < columns; ++i) {
    Sum expected;
    if (encoding == Float16::encoding || encoding == Bfloat16::encoding) {
      expected.add(element_at(encoding, row.data() + 2 * i));
    } else {
      const Block& block = blocks[i / 32];
      expected.add(block.value(i % 32));
      if (block.offset != 0) expected.add(block.offset_of(i % 32));
    }
    expect_near(values[i], expected.value, 2e-7 * expected.magnitude, "element ", i, " of ", columns);
  }
}

// Against the C library's, on values whose product is close to the addend, to a tie, or to the smallest.
void check_fused(Random& random) {
  const auto value = [&](int least, int most) {
    const uint32_t sign = random.integer(0, 1) << 31, exponent = random.integer(least, most) << 23;
    const uint32_t dropped = random.chance(0.5) ? 0 : 0x7fffffu >> random.integer(0, 22);
    const uint32_t bits = sign | exponent | (random.integer(0, 0x7fffff) & ~dropped);
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
  };
  for (int i = 0; i < 1000; ++i) {
    const float a = value(0, 255), b = random.chance(0.5) ? value(0, 255) : value(100, 150);
    int exponent = 0;
    const float product = a * b;
    if (std::isfinite(product) && product != 0) exponent = std::ilogb(product) + 127;
    const int64_t beside = exponent + random.integer(-50, 50);
    float c = value(std::clamp<int64_t>(beside, 0, 255), std::clamp<int64_t>(beside, 0, 255));
    if (random.chance(0.1)) c = -product;
    const float as[] = {a, b, c, a}, bs[] = {b, c, a, -b}, cs[] = {c, a, b, c};
    float fused[] = {c, a, b, c};
    fuse(as, bs, fused);
    for (int lane = 0; lane < 4; ++lane)
      expect_same(fused[lane], std::fma(as[lane], bs[lane], cs[lane]), as[lane], " * ", bs[lane], " + ", cs[lane]);
  }
}

// ---- the program ----

struct KernelCheck {
  std::string name;
  Result (*run)(const Kernels&, Random&);
};

template <Encoding encoding>
Result product_of(const Kernels& kernels, Random& random) {
  return check_product(kernels, random, encoding);
}
template <Encoding encoding>
Result float_product_of(const Kernels& kernels, Random& random) {
  return check_float_product(kernels, random, encoding);
}

const KernelCheck kKernelChecks[] = {
    {"quantize", check_quantize},
    {"rms_norm", check_rms_norm},
    {"product q4_0", product_of<Q4_0::encoding>},
    {"product q4_1", product_of<Q4_1::encoding>},
    {"product q5_0", product_of<Q5_0::encoding>},
    {"product q5_1", product_of<Q5_1::encoding>},
    {"product q8_0", product_of<Q8_0::encoding>},
    {"product q2_k", product_of<Q2_K::encoding>},
    {"product q3_k", product_of<Q3_K::encoding>},
    {"product q4_k", product_of<Q4_K::encoding>},
    {"product q5_k", product_of<Q5_K::encoding>},
    {"product q6_k", product_of<Q6_K::encoding>},
    {"product iq4_nl", product_of<IQ4_NL::encoding>},
    {"product iq4_xs", product_of<IQ4_XS::encoding>},
    {"product mxfp4", product_of<MXFP4::encoding>},
    {"gated_product", check_gated_product},
    {"float_product f32", float_product_of<Float32::encoding>},
    {"float_product f16", float_product_of<Float16::encoding>},
    {"float_product bf16", float_product_of<Bfloat16::encoding>},
    {"gate_multiply", check_gate_multiply},
    {"mixture", check_mixture},
    {"attend", check_attend},
    {"rotate", check_rotate},
    {"append", check_append},
};

// What a check has come to, over its cases.
struct Line {
  std::string name;
  int64_t cases = 0;
  std::string failure{};  // the first
  uint64_t digest = 0;    // of results, if it is about them

  template <class Body>
  void run(uint64_t seed, const Body& body) {
    ++cases;
    try {
      body();
    } catch (const std::exception& error) {
      if (failure.empty()) failure = std::string(error.what()) + "  (--seed " + std::to_string(seed) + " --cases 1)";
    }
  }
};

// FNV-1a over the bits of values; what is not a number has none of its own.
void add_to(uint64_t& digest, const Result& values) {
  for (const float value : values) {
    uint32_t bits = 0x7fc00000;
    if (!std::isnan(value)) std::memcpy(&bits, &value, sizeof bits);
    digest = (digest ^ bits) * 0x100000001b3u;
  }
}

class Checks {
 public:
  Checks() : tables_(usable_kernels()) {
    for (const KernelCheck& check : kKernelChecks)
      for (const Kernels* table : tables_) lines_.push_back({std::string(table->name) + "  " + check.name});
    std::string all;
    for (const Kernels* table : tables_) all += (all.empty() ? "" : " = ") + std::string(table->name);
    for (const KernelCheck& check : kKernelChecks) agreement_.push_back({all + "  " + check.name});
  }

  void run(uint64_t seed) {
    const auto with_random = [&](void (*check)(Random&)) {
      return [=] {
        Random random(seed);
        check(random);
      };
    };
    packing_.run(seed, with_random(check_packing));
    decoding_.run(seed, with_random(check_decode_row));
    fusing_.run(seed, with_random(check_fused));
    choosing_.run(seed, with_random(check_choose));
    size_t line = 0;
    for (size_t c = 0; c < std::size(kKernelChecks); ++c) {
      const Kernels* first = nullptr;
      Result expected;
      for (const Kernels* table : tables_) {
        Result result;
        lines_[line++].run(seed, [&] {
          Random random(seed);
          result = kKernelChecks[c].run(*table, random);
        });
        if (first == nullptr) {
          first = table;
          expected = result;
          add_to(agreement_[c].digest, result);
          continue;
        }
        agreement_[c].run(seed, [&] {
          if (result.size() != expected.size()) fail(table->name, ": ", result.size(), " values");
          for (size_t i = 0; i < result.size(); ++i) expect_same(result[i], expected[i], table->name, ", value ", i);
        });
      }
    }
  }

  // Whether all is well.
  bool print() const {
    bool good = true;
    const auto print_line = [&](const Line& line) {
      if (line.cases == 0) return;
      if (line.failure.empty() && line.digest != 0)
        std::printf("ok      %s  (%lld cases, digest %016llx)\n", line.name.c_str(),
                    static_cast<long long>(line.cases), static_cast<unsigned long long>(line.digest));
      else if (line.failure.empty())
        std::printf("ok      %s  (%lld cases)\n", line.name.c_str(), static_cast<long long>(line.cases));
      else
        std::printf("FAILED  %s: %s\n", line.name.c_str(), line.failure.c_str());
      good = good && line.failure.empty();
    };
    print_line(packing_);
    print_line(decoding_);
    print_line(fusing_);
    print_line(choosing_);
    for (const Line& line : lines_) print_line(line);
    for (const Line& line : agreement_) print_line(line);
    return good;
  }

 private:
  std::vector<const Kernels*> tables_;
  Line packing_{"packing"}, decoding_{"decode_row"}, fusing_{"fused"}, choosing_{"choose"};
  std::vector<Line> lines_, agreement_;
};

}  // namespace

int main(int count, char** arguments) {
  uint64_t seed = 1;
  int64_t cases = 100;
  double seconds = 0;
  for (int i = 1; i < count; i += 2) {
    const std::string option = arguments[i];
    char* end = nullptr;
    const double value = i + 1 < count ? std::strtod(arguments[i + 1], &end) : -1;
    const bool known = option == "--seed" || option == "--cases" || option == "--fuzz";
    if (!known || value < 0 || end == nullptr || *end != '\0') {
      std::fprintf(stderr, "usage: %s [--seed N] [--cases N] [--fuzz SECONDS]\n", arguments[0]);
      return 2;
    }
    if (option == "--seed") seed = static_cast<uint64_t>(value);
    else if (option == "--cases") cases = static_cast<int64_t>(value);
    else seconds = value;
  }
  using Clock = std::chrono::steady_clock;
  const auto stop = Clock::now() + std::chrono::duration<double>(seconds);
  Checks checks;
  for (int64_t i = 0; i < cases || Clock::now() < stop; ++i) checks.run(seed + i);
  return checks.print() ? 0 : 1;
}
