#include "decode.h"

#include "formats.h"

namespace native {

void decode_row(Encoding encoding, const uint8_t* row, int64_t columns, float* values) {
  with_format(encoding, [&](auto format) {
    const auto* blocks = reinterpret_cast<const typename decltype(format)::Block*>(row);
    for (int64_t i = 0; i < columns / format.columns; ++i) format.decode(blocks[i], values + i * format.columns);
  });
}

}  // namespace native
