// The custom operators of the domain `pipelines.native`.

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "attention_operator.h"
#include "decode.h"
#include "experts_operator.h"
#include "formats.h"
#include "kernels.h"
#include "matrix.h"
#include "node.h"
#include "ort_custom_op.h"
#include "panels.h"
#include "tiles.h"

namespace native {

namespace {

constexpr int64_t kTaskBytes = 192 << 10;  // of a matrix that a thread takes at a time

}  // namespace

// Products of one input with one or more weight matrices. Inputs: x [..., K]; the matrices, each of `rows_i` rows, see
// `matrix`; with `norm` the weight of an RMSNorm of x [K]; with `residual` what is added to the (only) product [..., N].
// With `gated` there are two matrices and one output, by(x W0') * (x W1'), where `gated` is the number of a `Gate`.
class Linear {
 public:
  static constexpr const char* name = "Linear";
  static constexpr Type inputs[] = {Type::float32, Type::any};
  static constexpr Type outputs[] = {Type::float32};
  static constexpr bool variadic_input = true, variadic_output = true;

  explicit Linear(const Info& info)
      : columns_(columns_attribute(info)),
        normalizes_(info.flag("norm")),
        adds_(info.flag("residual")),
        gated_(info.integer("gated", 0, static_cast<int64_t>(Gate::gelu))),
        epsilon_(info.number("epsilon")) {
    if (epsilon_ < 0) throw InvalidArgument("attribute 'epsilon' is negative");
    const int64_t count = info.integer("weights", 1, static_cast<int64_t>(info.inputs()));
    expect_count(info.inputs(), 1 + count + normalizes_ + adds_, "inputs");
    expect_count(info.outputs(), gated_ ? 1 : count, "outputs");
    matrices_.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
      const std::string number = std::to_string(i);
      matrices_.push_back(matrix(info.constant(1 + i), encoding_attribute(info, "encoding_" + number),
                                 info.integer("rows_" + number, 1, kMostRows), columns_));
      quantizes_ |= matrices_.back().packed();
    }
    if (adds_ && count != 1) throw InvalidArgument("a residual is added to one product");
    if (gated_ && (count != 2 || matrices_[0].rows() != matrices_[1].rows() || !matrices_[0].packed() ||
                   matrices_[0].encoding() != matrices_[1].encoding()))
      throw InvalidArgument("a gated product has two block-quantized matrices of one shape and encoding");
  }

  void compute(Context& context) const {
    const Tensor x = context.input(0);
    if (x.shape.empty() || x.shape.back() != columns_)
      throw InvalidArgument("the input " + text(x.shape) + " has not " + std::to_string(columns_) + " columns");
    const int64_t tokens = x.elements(0, x.shape.size() - 1);
    size_t next = 1 + matrices_.size();
    const float* norm = normalizes_ ? norm_weight(context.input(next++)) : nullptr;
    const float* residual = adds_ ? added(context.input(next++), tokens) : nullptr;
    std::vector<float*> results;
    for (size_t i = 0; i < (gated_ ? 1 : matrices_.size()); ++i) {
      std::vector<int64_t> shape = x.shape;
      shape.back() = matrices_[i].rows();
      results.push_back(context.output(i, shape).data<float>());
    }
    if (tokens == 0) return;
    const Panels panels(quantizes_ ? tokens : 0, columns_);
    const float* rows = prepare(context, x.data<float>(), tokens, norm, panels);
    multiply(context, rows, tokens, panels, residual, results);
  }

 private:
  // Some rows of a matrix, which a thread multiplies.
  struct Task {
    size_t matrix;
    int64_t first, last;
  };

  const float* norm_weight(const Tensor& weight) const {
    if (weight.elements() != columns_)
      throw InvalidArgument("the norm's weight " + text(weight.shape) + " has not the size of a row");
    return weight.data<float>();
  }

  const float* added(const Tensor& residual, int64_t tokens) const {
    if (residual.elements() != tokens * matrices_[0].rows())
      throw InvalidArgument("the residual " + text(residual.shape) + " has not the size of the product");
    return residual.data<float>();
  }

  // Normalizes the rows, if there is a norm, and quantizes them, if there are block formats. Returns what float
  // matrices are multiplied with.
  const float* prepare(Context& context, const float* rows, int64_t tokens, const float* norm,
                       const Panels& panels) const {
    if (norm == nullptr && !quantizes_) return rows;
    const Kernels& kernel = kernels();
    float* normed = norm != nullptr ? scratch<float>(tokens * columns_) : nullptr;
    context.parallel_for((tokens + kMaxTokens - 1) / kMaxTokens, [&](size_t i) {
      const int64_t first = i * kMaxTokens, last = std::min<int64_t>(tokens, first + kMaxTokens);
      for (int64_t t = first; norm != nullptr && t < last; ++t)
        kernel.rms_norm(rows + t * columns_, norm, epsilon_, columns_, normed + t * columns_);
      if (quantizes_)
        kernel.quantize((norm != nullptr ? normed : rows) + first * columns_, columns_, last - first, panels[i]);
    });
    return norm != nullptr ? normed : rows;
  }

  void multiply(Context& context, const float* rows, int64_t tokens, const Panels& panels, const float* residual,
                const std::vector<float*>& results) const {
    const Kernels& kernel = kernels();
    std::vector<Task> tasks;
    for (size_t i = 0; i < results.size(); ++i) {
      // Kernels take groups of rows by twos.
      const int64_t step = std::max<int64_t>(1, kTaskBytes / matrices_[i].group_bytes() / 2) * 2 * kLanes;
      for (int64_t first = 0; first < matrices_[i].rows(); first += step)
        tasks.push_back({i, first, std::min(matrices_[i].rows(), first + step)});
    }
    const int64_t ahead = prefetch_distance();
    context.parallel_for(tasks.size(), [&](size_t i) {
      const Task& task = tasks[i];
      const Matrix& matrix = matrices_[task.matrix];
      const Output all{results[task.matrix], matrix.rows(), matrix.rows(), residual};
      if (!matrix.packed())
        return kernel.float_product(matrix.encoding(), matrix.data(), ahead, task.first, task.last, rows, columns_,
                                    tokens, all);
      for (size_t p = 0; p < panels.size(); ++p) {
        Output output = all;
        const int64_t offset = static_cast<int64_t>(p) * kMaxTokens * output.stride;
        output.values += offset;
        if (residual != nullptr) output.residual += offset;
        if (gated_)
          kernel.gated_product(matrix.encoding(), static_cast<Gate>(gated_), matrix.data(), matrices_[1].data(), ahead, task.first, task.last,
                               panels[p], panels.tokens(p), output);
        else
          kernel.product(matrix.encoding(), matrix.data(), ahead, task.first, task.last, panels[p], panels.tokens(p),
                         output);
      }
    });
  }

  int64_t columns_;
  bool normalizes_, adds_;
  int64_t gated_;  // 0, or the number of a `Gate`
  float epsilon_;
  bool quantizes_ = false;
  std::vector<Matrix> matrices_;
};

// Rows of a matrix: tokens [...] int64 and the bytes of the file [N, row_bytes] to values [..., K].
class Embedding {
 public:
  static constexpr const char* name = "Embedding";
  static constexpr Type inputs[] = {Type::int64, Type::uint8};
  static constexpr Type outputs[] = {Type::float32};

  explicit Embedding(const Info& info)
      : encoding_(encoding_attribute(info, "encoding")), columns_(columns_attribute(info)) {
    expect_blocks(encoding_, columns_);
    expect_count(info.inputs(), std::size(inputs), "inputs");
    expect_count(info.outputs(), std::size(outputs), "outputs");
  }

  void compute(Context& context) const {
    const Tensor tokens = context.input(0), table = context.input(1);
    const int64_t bytes = row_bytes(encoding_, columns_);
    if (table.shape.size() != 2 || table.shape[1] != bytes)
      throw InvalidArgument("the table " + text(table.shape) + " has not rows of " + std::to_string(bytes) + " bytes");
    const int64_t count = tokens.elements(), rows = table.shape[0];
    const int64_t* ids = tokens.data<int64_t>();
    for (int64_t i = 0; i < count; ++i)
      if (ids[i] < 0 || ids[i] >= rows)
        throw InvalidArgument("token " + std::to_string(ids[i]) + " is outside of the vocabulary of " +
                              std::to_string(rows));
    std::vector<int64_t> shape = tokens.shape;
    shape.push_back(columns_);
    float* values = context.output(0, shape).data<float>();
    const auto* stored = table.data<uint8_t>();
    context.parallel_for(count, [&](size_t i) {
      decode_row(encoding_, stored + ids[i] * bytes, columns_, values + i * columns_);
    });
  }

 private:
  Encoding encoding_;
  int64_t columns_;
};

}  // namespace native

// What lays weights out for these operators. Bytes of the tiles of sixteen rows; 0 for an encoding that has none, or
// whose blocks do not divide the columns.
extern "C" __attribute__((visibility("default"))) int64_t native_group_bytes(int64_t encoding, int64_t columns) {
  const auto format = static_cast<native::Encoding>(encoding);
  if (!native::is_packed(format) || columns < 1 || columns % native::block_columns(format) != 0) return 0;
  return native::tile_group_bytes(format, columns);
}

// See `pack`.
extern "C" __attribute__((visibility("default"))) void native_pack(int64_t encoding, const uint8_t* stored, int64_t rows,
                                                                   int64_t columns, uint8_t* tiles) {
  native::pack(static_cast<native::Encoding>(encoding), stored, rows, columns, tiles);
}

using RotaryAttention = native::Attention<true, true>;
using Attention = native::Attention<true, false>;
using RotaryAttentionFloat32 = native::Attention<false, true>;
using AttentionFloat32 = native::Attention<false, false>;

CUSTOM_OPS("pipelines.native", native::Linear, native::Embedding, native::Experts, RotaryAttention, Attention,
           RotaryAttentionFloat32, AttentionFloat32)
