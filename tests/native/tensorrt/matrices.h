// A network's weights stacked by block and role: lreorg_fast/cdfnet/coupling.py's arrays.
#pragma once

#include <string>

#include "network.h"

namespace lreorg::test {

// One tensor of all blocks and roles after the other: "blocks.*.GROUP.*PART".
Values stacked(const Network& network, const std::string& group, const std::string& part);

// The matrices between hidden layers, (n, 3, 4g, 4g).
Values chains(const Network& network);

}  // namespace lreorg::test
