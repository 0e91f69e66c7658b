// The values of one row of a stored matrix.
#pragma once

#include "kernels.h"

namespace native {

void decode_row(Encoding encoding, const uint8_t* row, int64_t columns, float* values);

}  // namespace native
