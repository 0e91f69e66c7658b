// The kernels, written once over the sixteen lanes that a simd_*.h provides.
//
// What is summed for one token and one row is summed in one order, whatever else is computed with
// it, so that a sequence's results do not depend on its neighbours in a batch, nor on how a prompt
// is cut into pieces.

#include <cmath>
#include <cstring>

#include "formats.h"
#include "kernels.h"

namespace {

using native::AttentionJob;
using native::Bfloat;
using native::BlockFormats;
using native::Constant;
using native::Encoding;
using native::Gate;
using native::FloatFormats;
using native::kLanes;
using native::kSpan;
using native::Output;
using native::Panel;
using native::Reading;
using native::Share;
using native::unrolled;

// ---- products with packed matrices ----

// What is computed together: some tokens of a panel, times one or two groups of sixteen rows. Two groups
// share the loads of activations, of which there is one for each dot product otherwise. It is also what formats are
// multiplied with: they are read before this file.
template <int width_, int tokens_, int groups_>
struct Shape {
  static constexpr int width = width_, tokens = tokens_, groups = groups_, code_offset = kCodeOffset;
  // Where few tokens share a line, memory is what they wait for, so later ones are asked for.
  static constexpr bool asks_ahead = width <= 8 && tokens == width;

  using F32 = ::F32;
  using I32 = ::I32;
  using Codes = ::Codes;
  using Activations = ::Activations;
  using Sums = F32[groups][tokens];
  using Dots = I32[groups][tokens];

  // The tokens' activations; `b` counts blocks of 32 from the tile's first column on.
  struct Tokens {
    const Panel& panel;
    int64_t block;  // of the tile's first column
    int first;      // token

    // Of four columns, those of line `line`.
    NATIVE_INLINED const int8_t* codes(int b, int line = 0) const {
      return panel.codes + (((block + b) * 8 + line) * width + first) * 4;
    }
    NATIVE_INLINED const float* scales(int b) const { return panel.scales + (block + b) * width + first; }
    NATIVE_INLINED const float* totals(int b) const { return panel.totals + (block + b) * width + first; }
    NATIVE_INLINED const int32_t* sums(int b) const { return panel.sums + (block + b) * width + first; }
    NATIVE_INLINED const int32_t* sums_16(int b, int half) const { return panel.sums_16 + ((block + b) * 2 + half) * width + first; }
  };

  // Calls `body` with every group and token.
  template <class Body>
  static inline NATIVE_INLINED void for_each(const Body& body) {
    for (int g = 0; g < groups; ++g)
      for (int t = 0; t < tokens; ++t) body(g, t);
  }

  // Calls `body` with the numbers of lines. Unrolled by the compiler's choice, which is made by a narrow margin, products
  // take up to a fifth longer where registers are many; unrolled where they are few, up to a tenth.
  template <int count, class Body>
  static inline NATIVE_INLINED void for_each_line(const Body& body) {
    if constexpr (kManyRegisters)
      unrolled<count>([&](auto line) NATIVE_INLINED { body(line.value); });
    else
      for (int line = 0; line < count; ++line) body(line);
  }

  static inline NATIVE_INLINED void ask_for(const uint8_t* line) { prefetch(line); }
  static inline NATIVE_INLINED Codes load_line(const uint8_t* line, Reading reading) {
    if (asks_ahead) ask_for(line + reading.ahead);
    return Codes::load(line);
  }

  // What needs a constant would not be found by the types of its arguments.
  template <int count, int place>
  static inline NATIVE_INLINED Codes bits(Codes codes) {
    return ::bits<count, place>(codes);
  }
  template <int count, int place, int above = 4>
  static inline NATIVE_INLINED Codes with_bits(Codes low, Codes high) {
    return ::with_bits<count, place, above>(low, high);
  }
  template <int left>
  static inline NATIVE_INLINED I32 shift_left(I32 words) {
    return ::shift_left<left>(words);
  }
  template <int right>  // zeros follow
  static inline NATIVE_INLINED I32 shift_right(I32 words) {
    return ::shift_right<right>(words);
  }

  // dots += a line of codes of each group * four columns of activations
  static inline NATIVE_INLINED void add_line(Dots& dots, const Codes (&line)[groups], const int8_t* activations) {
    for (int t = 0; t < tokens; ++t) {
      const Activations x = Activations::load(activations + 4 * t);
      for (int g = 0; g < groups; ++g) dots[g][t] = dot(dots[g][t], line[g], x);
    }
  }

  // dots += a block's lines of nibbles * its activations
  static inline NATIVE_INLINED void add_nibbles(Dots& dots, const native::CodeLine (&lines)[4], Reading reading, const int8_t* activations) {
    for_each_line<4>([&](int j) NATIVE_INLINED {
      Codes low[groups], high[groups];
      for (int g = 0; g < groups; ++g) {
        const Codes line = load_line(lines[j] + g * reading.stride, reading);
        low[g] = low_nibbles(line);
        high[g] = high_nibbles(line);
      }
      add_line(dots, low, activations + j * width * 4);
      add_line(dots, high, activations + (j + 4) * width * 4);
    });
  }

  static inline NATIVE_INLINED void load_halves(const native::Half (&halves)[kLanes], Reading reading, F32 (&values)[groups]) {
    for (int g = 0; g < groups; ++g) values[g] = F32::load_half(halves[0].bytes + g * reading.stride);
  }

  // sums += dots * scale of the row * scale of the token
  static inline NATIVE_INLINED void add_scaled(Sums& sums, const Dots& dots, const F32 (&scale)[groups], const float* token_scales) {
    for (int t = 0; t < tokens; ++t) {
      const F32 token_scale = F32::all(token_scales[t]);
      for (int g = 0; g < groups; ++g) sums[g][t] = fma(to_float(dots[g][t]), scale[g] * token_scale, sums[g][t]);
    }
  }
  static inline NATIVE_INLINED void add_scaled(Sums& sums, const Dots& dots, const native::Half (&scales)[kLanes], Reading reading,
                         const float* token_scales) {
    F32 scale[groups];
    load_halves(scales, reading, scale);
    add_scaled(sums, dots, scale, token_scales);
  }

  // sums += offset of the row * total of the token
  static inline NATIVE_INLINED void add_offsets(Sums& sums, const F32 (&offset)[groups], const float* totals) {
    for_each([&](int g, int t) NATIVE_INLINED { sums[g][t] = fma(offset[g], F32::all(totals[t]), sums[g][t]); });
  }
  static inline NATIVE_INLINED void add_offsets(Sums& sums, const native::Half (&offsets)[kLanes], Reading reading, const float* totals) {
    F32 offset[groups];
    load_halves(offsets, reading, offset);
    add_offsets(sums, offset, totals);
  }
};

// Groups of rows times some tokens of a panel, from `first` on.
template <class Format, class S>
inline NATIVE_INLINED void multiply(const uint8_t* tiles, Reading reading, const Panel& x, int first, typename S::Sums& sums) {
  using Tile = typename Format::Tile;
  constexpr int64_t blocks = Format::tile_columns / 32;
  S::for_each([&](int g, int t) NATIVE_INLINED { sums[g][t] = F32::zero(); });
  for (int64_t block = 0; block < x.columns / 32; block += blocks, tiles += sizeof(Tile)) {
    // The lines of codes are asked for one by one where `add` does that.
    const int64_t asked = S::asks_ahead ? Format::header : x.leads && first == 0 ? sizeof(Tile) : 0;
    for (int g = 0; g < S::groups; ++g)
      for (int64_t line = 0; line < asked; line += 64) prefetch(tiles + g * reading.stride + reading.ahead + line);
    const typename S::Tokens tokens{x, block, first};
    Format::template add<S>(*reinterpret_cast<const Tile*>(tiles), reading, tokens, sums);
  }
}

template <class Format>
inline int64_t bytes_of_group(const Panel& x) {
  return static_cast<int64_t>(sizeof(typename Format::Tile)) * ((x.columns + Format::tile_columns - 1) / Format::tile_columns);
}

// The shape in which a panel is multiplied by a format. Where a format has several sums for a token in registers, there
// is room for fewer tokens, and not for a second group.
template <class Format, int width>
struct Best {
  static constexpr int sums = Format::sums_a_token;
  static constexpr int groups = width >= 8 && sums == 1 ? kGroups : 1;
  static constexpr int most = (kTokens + sums - 1) / sums / groups;
  static constexpr int tokens = width < most ? width : most;
};

inline void store(F32 sums, int64_t row, int token, const Output& output) {
  const int64_t place = token * output.stride + row;
  if (row + kLanes <= output.rows) {
    if (output.residual != nullptr) sums = sums + F32::load(output.residual + place);
    sums.store(output.values + place);
    return;
  }
  float lanes[kLanes];
  sums.store(lanes);
  for (int64_t i = 0; row + i < output.rows; ++i)
    output.values[place + i] = lanes[i] + (output.residual != nullptr ? output.residual[place + i] : 0.0f);
}

// The product with one or two groups of rows, the second one `apart` rows after the first.
template <class Format, int width, int groups>
inline void rows_of_product(const uint8_t* tiles, int64_t row, int64_t apart, int64_t ahead, const Panel& x, int count,
                            const Output& output) {
  using S = Shape<width, Best<Format, width>::tokens, groups>;
  const int64_t bytes = bytes_of_group<Format>(x);
  const Reading reading{apart / kLanes * bytes, ahead};
  for (int first = 0; first < width && first < count; first += S::tokens) {
    typename S::Sums sums;
    multiply<Format, S>(tiles + row / kLanes * bytes, reading, x, first, sums);
    S::for_each([&](int g, int t) {
      if (first + t < count) store(sums[g][t], row + g * apart, first + t, output);
    });
  }
}

template <class Format, int width>
void product_of(const uint8_t* tiles, int64_t ahead, int64_t first, int64_t last, const Panel& x, int count,
                const Output& output) {
  constexpr int groups = Best<Format, width>::groups;
  // Of two groups each goes through a half of the rows from front to back, so that what is asked for ahead is
  // what the same group comes to next.
  const int64_t part = (last - first) / (groups * kLanes) * kLanes;
  for (int64_t row = first; row < first + part; row += kLanes)
    rows_of_product<Format, width, groups>(tiles, row, part, ahead, x, count, output);
  for (int64_t row = first + groups * part; row < last; row += kLanes)
    rows_of_product<Format, width, 1>(tiles, row, 0, ahead, x, count, output);
}

// Calls `body` with the width of a panel as a constant.
template <class Body>
inline void with_width(int width, const Body& body) {
  switch (width) {
    case 1: return body(Constant<1>{});
    case 2: return body(Constant<2>{});
    case 4: return body(Constant<4>{});
    case 8: return body(Constant<8>{});
    case 16: return body(Constant<16>{});
  }
}

void product(Encoding encoding, const uint8_t* tiles, int64_t ahead, int64_t first, int64_t last, const Panel& x,
             int tokens, const Output& output) {
  BlockFormats::with(encoding, [&](auto format) {
    with_width(x.width, [&](auto width) {
      product_of<decltype(format), decltype(width)::value>(tiles, ahead, first, last, x, tokens, output);
    });
  });
}

// ---- elementwise ----

// e^x to 2e-7; 0 below -87, at most e^88.
inline F32 exp(F32 x) {
  const F32 bounded = min(F32::all(88.0f), max(F32::all(-87.0f), x));  // this order keeps NaN
  const I32 n = round(bounded * F32::all(1.44269504f));
  const F32 whole = to_float(n);
  F32 r = fma(whole, F32::all(-0.693359375f), bounded);
  r = fma(whole, F32::all(2.12194440e-4f), r);
  F32 y = F32::all(1.9875691500e-4f);  // Cephes' expf
  y = fma(y, r, F32::all(1.3981999507e-3f));
  y = fma(y, r, F32::all(8.3334519073e-3f));
  y = fma(y, r, F32::all(4.1665795894e-2f));
  y = fma(y, r, F32::all(1.6666665459e-1f));
  y = fma(y, r, F32::all(5.0000001201e-1f));
  y = fma(y * r, r, r) + F32::all(1.0f);
  return zero_unless_above(y * as_float(shift_left<23>(n + I32::all(127))), x, -87.0f);
}

// The logistic function and the hyperbolic tangent; the latter to 2e-7.
inline F32 times_sigmoid(F32 factor, F32 x) { return factor / (F32::all(1.0f) + exp(F32::zero() - x)); }
inline F32 tanh(F32 x) { return times_sigmoid(F32::all(2.0f), x + x) - F32::all(1.0f); }

// x * (1 + tanh(u)) / 2 is x * sigmoid(2u), with u = sqrt(2 / pi) * (x + 0.044715 x^3) (Hendrycks and Gimpel 2016,
// arXiv:1606.08415).
inline F32 activated(Gate by, F32 x) {
  if (by == Gate::silu) return times_sigmoid(x, x);
  const F32 cubic = fma(x * x, F32::all(0.0713548162726f), F32::all(1.5957691216057f));
  return times_sigmoid(x, x * cubic);
}

// The lanes of a row from `i` on; those beyond its end are zeros.
inline F32 load_lanes(const float* row, int64_t i, int64_t count) {
  if (i + kLanes <= count) return F32::load(row + i);
  float lanes[kLanes] = {};
  for (int64_t j = 0; i + j < count; ++j) lanes[j] = row[i + j];
  return F32::load(lanes);
}
inline F32 load_lanes(const uint16_t* row, int64_t i, int64_t count) {
  if (i + kLanes <= count) return F32::load_half(row + i);
  uint16_t lanes[kLanes] = {};
  for (int64_t j = 0; i + j < count; ++j) lanes[j] = row[i + j];
  return F32::load_half(lanes);
}
inline F32 load_lanes(const Bfloat* row, int64_t i, int64_t count) {
  if (i + kLanes <= count) return F32::load_bfloat(row + i);
  Bfloat lanes[kLanes] = {};
  for (int64_t j = 0; i + j < count; ++j) lanes[j] = row[i + j];
  return F32::load_bfloat(lanes);
}
inline void store_lanes(F32 x, float* row, int64_t i, int64_t count) {
  if (i + kLanes <= count) return x.store(row + i);
  float lanes[kLanes];
  x.store(lanes);
  for (int64_t j = 0; i + j < count; ++j) row[i + j] = lanes[j];
}

void gate_multiply(Gate by, float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes)
    store_lanes(activated(by, load_lanes(gate, i, count)) * load_lanes(up, i, count), gate, i, count);
}

void rms_norm(const float* x, const float* weight, float epsilon, int64_t columns, float* y) {
  F32 squares = F32::zero();
  for (int64_t i = 0; i < columns; i += kLanes) {
    const F32 lanes = load_lanes(x, i, columns);
    squares = fma(lanes, lanes, squares);
  }
  const F32 factor = F32::all(1.0f / std::sqrt(sum(squares) / static_cast<float>(columns) + epsilon));
  for (int64_t i = 0; i < columns; i += kLanes)
    store_lanes(load_lanes(x, i, columns) * factor * load_lanes(weight, i, columns), y, i, columns);
}

// ---- quantized activations ----

void quantize(const float* x, int64_t columns, int tokens, const Panel& panel) {
  for (int64_t block = 0; block < native::rounded_up(panel.columns) / 32; ++block) {
    for (int t = 0; t < panel.width; ++t) {
      const float* row = x + t * columns;
      const bool empty = t >= tokens;
      const F32 a = empty ? F32::zero() : load_lanes(row, block * 32, columns);
      const F32 b = empty ? F32::zero() : load_lanes(row, block * 32 + 16, columns);
      const uint32_t bits = largest_magnitude_bits(a, b);
      float largest;
      std::memcpy(&largest, &bits, 4);
      // What is this small adds nothing, and its inverse would be infinite. With a value that is not
      // finite, codes of zero times a scale like it make all products not a number.
      const bool nothing = largest < 1e-36f, usable = !nothing && std::isfinite(largest);
      const F32 inverse = F32::all(127.0f / largest);
      const I32 low = usable ? round(a * inverse) : I32::zero(), high = usable ? round(b * inverse) : I32::zero();
      int8_t* place = panel.codes + (block * 8 * panel.width + t) * 4;
      if (panel.width == 1) {
        low.store_bytes(place);
        high.store_bytes(place + 16);
      } else {
        alignas(16) int8_t codes[32];
        low.store_bytes(codes);
        high.store_bytes(codes + 16);
        for (int i = 0; i < 8; ++i) std::memcpy(place + i * 4 * panel.width, codes + 4 * i, 4);
      }
      const int32_t halves[2] = {sum(low), sum(high)};
      const int32_t whole = halves[0] + halves[1];
      const float scale = nothing ? 0.0f : largest / 127.0f;
      panel.scales[block * panel.width + t] = scale;
      panel.totals[block * panel.width + t] = scale * static_cast<float>(whole);
      panel.sums[block * panel.width + t] = -8 * whole;
      panel.sums_16[block * 2 * panel.width + t] = -32 * halves[0];
      panel.sums_16[(block * 2 + 1) * panel.width + t] = -32 * halves[1];
    }
  }
}

// ---- gated products ----

template <class Format, int width>
void gated_product_of(Gate by, const uint8_t* gate, const uint8_t* up, int64_t ahead, int64_t first, int64_t last,
                      const Panel& x, int count, const Output& output) {
  using Group = Best<Format, width>;
  const int64_t bytes = bytes_of_group<Format>(x);
  for (int64_t row = first; row < last; row += kLanes) {
    const uint8_t *gates = gate + row / kLanes * bytes, *ups = up + row / kLanes * bytes;
    for (int start = 0; start < width && start < count; start += Group::tokens) {
      F32 sums[2][Group::tokens];
      if constexpr (Group::groups == 2) {
        multiply<Format, Shape<width, Group::tokens, 2>>(gates, Reading{ups - gates, ahead}, x, start, sums);
      } else {
        using One = Shape<width, Group::tokens, 1>;
        typename One::Sums one;
        for (int i = 0; i < 2; ++i) {
          multiply<Format, One>(i == 0 ? gates : ups, Reading{0, ahead}, x, start, one);
          for (int t = 0; t < Group::tokens; ++t) sums[i][t] = one[0][t];
        }
      }
      for (int t = 0; t < Group::tokens && start + t < count; ++t)
        store(activated(by, sums[0][t]) * sums[1][t], row, start + t, output);
    }
  }
}

void gated_product(Encoding encoding, Gate by, const uint8_t* gate, const uint8_t* up, int64_t ahead, int64_t first,
                   int64_t last, const Panel& x, int tokens, const Output& output) {
  BlockFormats::with(encoding, [&](auto format) {
    with_width(x.width, [&](auto width) {
      gated_product_of<decltype(format), decltype(width)::value>(by, gate, up, ahead, first, last, x, tokens, output);
    });
  });
}

// ---- products with float matrices ----

// A few rows times a few tokens; each sum is one chain of sixteen lanes.
template <int rows, int tokens, class Element>
inline void float_block(const Element* matrix, int64_t ahead, const float* x, int64_t columns, int64_t row,
                        int64_t token, const Output& output) {
  F32 sums[rows][tokens];
  for (int r = 0; r < rows; ++r)
    for (int t = 0; t < tokens; ++t) sums[r][t] = F32::zero();
  const Element* weights = matrix + row * columns;
  const float* activations = x + token * columns;
  const int64_t whole = columns - columns % kLanes;
  const auto step = [&](int64_t i, auto load) {
    F32 a[tokens];
    for (int t = 0; t < tokens; ++t) a[t] = load(activations + t * columns, i);
    for (int r = 0; r < rows; ++r) {
      const F32 w = load(weights + r * columns, i);
      for (int t = 0; t < tokens; ++t) sums[r][t] = fma(w, a[t], sums[r][t]);
    }
  };
  for (int64_t i = 0; i < whole; i += kLanes) {
    if (rows == 1) prefetch(reinterpret_cast<const char*>(weights + i) + ahead);
    step(i, [](auto* p, int64_t at) { return load_lanes(p, at, at + kLanes); });
  }
  if (whole < columns) step(whole, [&](auto* p, int64_t at) { return load_lanes(p, at, columns); });
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < tokens; ++t) {
      const int64_t place = (token + t) * output.stride + row + r;
      output.values[place] = sum(sums[r][t]) + (output.residual != nullptr ? output.residual[place] : 0.0f);
    }
  }
}

template <class Element>
void float_product_of(const Element* matrix, int64_t ahead, int64_t first, int64_t last, const float* x,
                      int64_t columns, int64_t tokens, const Output& output) {
  if (tokens == 1) {  // one stream through memory
    for (int64_t row = first; row < last; ++row) float_block<1, 1>(matrix, ahead, x, columns, row, 0, output);
    return;
  }
  constexpr int64_t kBlock = 64;  // tokens that stay in the cache while rows pass
  for (int64_t begin = 0; begin < tokens; begin += kBlock) {
    const int64_t end = begin + kBlock < tokens ? begin + kBlock : tokens;
    int64_t row = first;
    for (; row + 4 <= last; row += 4) {
      int64_t token = begin;
      for (; token + 4 <= end; token += 4) float_block<4, 4>(matrix, ahead, x, columns, row, token, output);
      for (; token < end; ++token) float_block<4, 1>(matrix, ahead, x, columns, row, token, output);
    }
    for (; row < last; ++row)
      for (int64_t token = begin; token < end; ++token)
        float_block<1, 1>(matrix, ahead, x, columns, row, token, output);
  }
}

void float_product(Encoding encoding, const uint8_t* matrix, int64_t ahead, int64_t first, int64_t last,
                   const float* x, int64_t columns, int64_t tokens, const Output& output) {
  FloatFormats::with(encoding, [&](auto format) {
    const auto* elements = reinterpret_cast<const typename decltype(format)::Element*>(matrix);
    float_product_of(elements, ahead, first, last, x, columns, tokens, output);
  });
}

// ---- attention ----

constexpr int kChunk = 256;  // keys between two looks at the largest score; spans are whole chunks
constexpr float kNever = -__builtin_inff();

inline F32 load_state(const float* p) { return F32::load(p); }
inline F32 load_state(const uint16_t* p) { return F32::load_half(p); }

// From one row of queries, or of what they mix, to the next: the width rounded up to whole vectors.
inline int row_stride(int width) { return (width + kLanes - 1) / kLanes * kLanes; }

// Scores of `rows` queries and 16 * `blocks` keys, `[rows][kChunk]`.
template <int rows, int blocks, class Element>
inline void score(const float* queries, const Element* keys, int head_dim, float* scores) {
  const int stride = row_stride(head_dim);
  F32 sums[rows][blocks];
  for (int r = 0; r < rows; ++r)
    for (int b = 0; b < blocks; ++b) sums[r][b] = F32::zero();
  for (int d = 0; d < head_dim; ++d) {
    F32 key[blocks];
    for (int b = 0; b < blocks; ++b) {
      key[b] = load_state(keys + (b * head_dim + d) * kLanes);
    }
    if (rows <= 4) prefetch(keys + (2 * blocks * head_dim + d * blocks) * kLanes);
    for (int r = 0; r < rows; ++r)
      for (int b = 0; b < blocks; ++b) sums[r][b] = fma(F32::all(queries[r * stride + d]), key[b], sums[r][b]);
  }
  for (int r = 0; r < rows; ++r)
    for (int b = 0; b < blocks; ++b) sums[r][b].store(scores + r * kChunk + b * kLanes);
}

// Adds the values of `count` keys, by their weights, to `vectors` vectors of each row, from element
// `first` on. Only a single vector may reach beyond the end of a row.
template <int rows, int vectors, class Element>
inline void mix(const float* weights, const Element* values, int count, int value_dim, int first, float* mixed) {
  const int stride = row_stride(value_dim);
  mixed += first;
  F32 sums[rows][vectors];
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v] = F32::load(mixed + r * stride + v * kLanes);
  for (int k = 0; k < count; ++k) {
    F32 value[vectors];
    for (int v = 0; v < vectors; ++v)
      value[v] = vectors == 1 ? load_lanes(values + k * value_dim, first, value_dim)
                              : load_state(values + k * value_dim + first + v * kLanes);
    if (rows <= 4)
      for (int v = 0; v < vectors; v += 2) prefetch(values + (k + 32) * value_dim + first + v * kLanes);
    for (int r = 0; r < rows; ++r)
      for (int v = 0; v < vectors; ++v) sums[r][v] = fma(F32::all(weights[r * kChunk + k]), value[v], sums[r][v]);
  }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < vectors; ++v) sums[r][v].store(mixed + r * stride + v * kLanes);
}

// Multiplies a row of `size` elements, a multiple of the lanes.
inline void scale(float* row, int size, F32 factor) {
  for (int i = 0; i < size; i += kLanes) (F32::load(row + i) * factor).store(row + i);
}

// Has a row of scores come near a cap and never reach it.
inline void limit(float* row, int size, float cap) {
  for (int i = 0; i < size; i += kLanes)
    (tanh(F32::load(row + i) / F32::all(cap)) * F32::all(cap)).store(row + i);
}

// Softmax of a row in chunks (Milakov and Gimelshein 2018, arXiv:1805.02867).
struct Softmax {
  float top = kNever;       // the highest score so far
  F32 total = F32::zero();  // the sum of the weights, which are relative to it

  // A score that is there before all others.
  void begin(float score) {
    top = score;
    total = keep_first(F32::all(1.0f), 1, 0.0f);
  }

  // Makes weights of a chunk's scores, of which the row sees the first `visible` but for the first
  // `hidden`. Returns the factor for what has been made with the weights before.
  F32 weigh(float* scores, int blocks, int64_t visible, int64_t hidden) {
    if (hidden >= blocks * kLanes) {
      for (int b = 0; b < blocks; ++b) F32::zero().store(scores + b * kLanes);
      return F32::all(1.0f);
    }
    for (int64_t i = 0; i < hidden; ++i) scores[i] = kNever;
    F32 high = F32::all(kNever);
    for (int b = 0; b < blocks; ++b) {
      const F32 lanes = keep_first(F32::load(scores + b * kLanes), static_cast<int>(visible - b * kLanes), kNever);
      lanes.store(scores + b * kLanes);
      high = max(high, lanes);
    }
    const float before = top, highest = largest(high);
    if (highest > before) top = highest;
    const F32 correction = exp(F32::all(before - top));
    total = total * correction;
    for (int b = 0; b < blocks; ++b) {
      const F32 weight = exp(F32::load(scores + b * kLanes) - F32::all(top));
      weight.store(scores + b * kLanes);
      total = total + weight;
    }
    return correction;
  }
};

// Some rows against the keys of a span that they see.
template <int rows, class Element>
void attend_rows(const AttentionJob& job, const Element* keys, const Element* values, int first) {
  const int head_dim = job.head_dim, value_dim = job.value_dim, stride = row_stride(value_dim);
  const float* queries = job.queries + first * row_stride(head_dim);
  float* mixed = job.mixed + first * stride;
  std::memset(mixed, 0, rows * stride * sizeof(float));
  Softmax softmax[rows];
  int64_t seen[rows], start[rows];  // each row sees the keys from `start` to `seen`
  for (int r = 0; r < rows; ++r) {
    seen[r] = job.end_seen(first + r);
    start[r] = job.first_seen(first + r);
    if (job.sinks != nullptr && job.first_span(first + r) == job.span)
      softmax[r].begin(job.sinks[(first + r) % job.heads]);
  }
  const int64_t span = job.span * kSpan, end = seen[rows - 1] < span + kSpan ? seen[rows - 1] : span + kSpan;

  alignas(64) float scores[rows * kChunk];
  // Chunks begin at the same keys whatever a window leaves out, so that sums have one order.
  const int64_t outset = start[0] > span ? start[0] / kChunk * kChunk : span;
  for (int64_t begin = outset; begin < end; begin += kChunk) {
    const int count = static_cast<int>(end - begin < kChunk ? end - begin : kChunk);
    const int blocks = (count + kLanes - 1) / kLanes;
    const Element* chunk = keys + begin * head_dim;
    int block = 0;
    for (; block + 2 <= blocks; block += 2)
      score<rows, 2>(queries, chunk + block * kLanes * head_dim, head_dim, scores + block * kLanes);
    if (block < blocks)
      score<rows, 1>(queries, chunk + block * kLanes * head_dim, head_dim, scores + block * kLanes);

    if (job.cap > 0)
      for (int r = 0; r < rows; ++r) limit(scores + r * kChunk, blocks * kLanes, job.cap);
    for (int r = 0; r < rows; ++r) {
      const F32 correction = softmax[r].weigh(scores + r * kChunk, blocks, seen[r] - begin, start[r] - begin);
      if (begin > outset) scale(mixed + r * stride, stride, correction);
    }

    constexpr int vectors = rows <= 4 ? 4 : 2;
    const Element* mixable = values + begin * value_dim;
    int i = 0;
    for (; i + vectors * kLanes <= value_dim; i += vectors * kLanes)
      mix<rows, vectors>(scores, mixable, count, value_dim, i, mixed);
    for (; i < value_dim; i += kLanes) mix<rows, 1>(scores, mixable, count, value_dim, i, mixed);
  }
  for (int r = 0; r < rows; ++r) job.shares[first + r] = {softmax[r].top, sum(softmax[r].total)};
}

template <class Element>
void attend_to(const AttentionJob& job) {
  const Element* keys = static_cast<const Element*>(job.keys);
  const Element* values = static_cast<const Element*>(job.values);
  int row = 0;
  for (; row + 8 <= job.rows; row += 8) attend_rows<8>(job, keys, values, row);
  for (; row + 4 <= job.rows; row += 4) attend_rows<4>(job, keys, values, row);
  for (; row < job.rows; ++row) attend_rows<1>(job, keys, values, row);
}

void attend(const AttentionJob& job) { job.half ? attend_to<uint16_t>(job) : attend_to<float>(job); }

void merge(const float* mixed, const Share& share, int width, float* into, Share& whole) {
  const float top = share.top > whole.top ? share.top : whole.top;
  const F32 before = exp(F32::all(whole.top - top)), added = exp(F32::all(share.top - top));
  for (int i = 0; i < width; i += kLanes)
    fma(F32::load(mixed + i), added, F32::load(into + i) * before).store(into + i);
  float totals[kLanes];
  fma(F32::all(share.total), added, F32::all(whole.total) * before).store(totals);
  whole = {top, totals[0]};
}

void normalize(float* mixed, const Share& share, int width) { scale(mixed, width, F32::all(1.0f / share.total)); }

// Rotates pairs of elements that are `distance` apart and multiplies them by `scale`. With a constant `step` compilers
// vectorize it.
template <int step>
inline void rotate_pairs(const float* x, const float* cos, const float* sin, int pairs, int distance, float scale,
                         float* __restrict y) {
  for (int i = 0; i < pairs; ++i) {
    const float real = x[i * step], imaginary = x[i * step + distance];
    y[i * step] = (real * cos[i] - imaginary * sin[i]) * scale;
    y[i * step + distance] = (real * sin[i] + imaginary * cos[i]) * scale;
  }
}

void rotate(const float* x, const float* cos, const float* sin, int head_dim, bool interleaved, float scale,
            float* y) {
  const int pairs = head_dim / 2;
  interleaved ? rotate_pairs<2>(x, cos, sin, pairs, 1, scale, y) : rotate_pairs<1>(x, cos, sin, pairs, pairs, scale, y);
}

// The element of a state in `float` or float16; what it is made of is rounded to that.
inline void store_state(const float* x, int64_t i, int count, float* y, int64_t step) {
  for (int j = 0; j < count; ++j) y[(i + j) * step] = x[i + j];
}
inline void store_state(const float* x, int64_t i, int count, uint16_t* y, int64_t step) {
  uint16_t halves[kLanes];
  load_lanes(x, i, i + count).store_half(halves);
  for (int j = 0; j < count; ++j) y[(i + j) * step] = halves[j];
}

// Writes a row of `width` elements, each `step` after the one before.
template <class Element>
inline void append_row(const float* x, int width, Element* y, int64_t step) {
  for (int i = 0; i < width; i += kLanes) store_state(x, i, width - i < kLanes ? width - i : kLanes, y, step);
}

template <class Element>
void append_to(const float* key, const float* value, int head_dim, int value_dim, int64_t position, Element* keys,
               Element* values) {
  append_row(key, head_dim, keys + position / kLanes * kLanes * head_dim + position % kLanes, kLanes);
  append_row(value, value_dim, values + position * value_dim, 1);
}

void append(const float* key, const float* value, int head_dim, int value_dim, int64_t position, bool half, void* keys,
            void* values) {
  if (half)
    append_to(key, value, head_dim, value_dim, position, static_cast<uint16_t*>(keys), static_cast<uint16_t*>(values));
  else
    append_to(key, value, head_dim, value_dim, position, static_cast<float*>(keys), static_cast<float*>(values));
}

}  // namespace

namespace native {

#define NATIVE_TABLE_OF(isa) NATIVE_TABLE(isa)
#define NATIVE_TABLE(isa)                                                                                     \
  extern const Kernels isa##_kernels;                                                                         \
  const Kernels isa##_kernels = {kName,         quantize,      rms_norm,     product, gated_product, float_product, \
                                 gate_multiply, attend,        merge,        normalize, rotate, append};
NATIVE_TABLE_OF(NATIVE_ISA)

}  // namespace native
