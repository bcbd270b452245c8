// The tests by subject.
#pragma once

#include <vector>

#include "check.h"

namespace lreorg::test {

extern const std::vector<Test> cuda_primitive_tests;
extern const std::vector<Test> cuda_reorganize_tests;
extern const std::vector<Test> cuda_reorganize_tests_sm80;
extern const std::vector<Test> cuda_repack_tests;
extern const std::vector<Test> packed_tests;
extern const std::vector<Test> executor_tests;
extern const std::vector<Test> team_tests;
extern const std::vector<Test> tensorrt_tests;

}  // namespace lreorg::test
