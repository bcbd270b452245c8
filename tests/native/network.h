// Small random networks, and the same computed naively in double precision from spec/cdfnet.md's
// equations in their folded form: no panels, no threads, no batching.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/executor.h"

namespace lreorg::test {

using Values = std::vector<double>;

struct Network {
  Shape shape;
  std::map<std::string, Values> tensors;  // as given for packing
  std::vector<float> constants;           // [keyword][block][role][dim]

  std::shared_ptr<const PackedWeights> pack(WeightType type) const;
  // With matrices as `type` keeps them.
  Network rounded(WeightType type) const;
  // One row through all blocks, in place.
  void disentangle(Values& h1, Values& h2, std::size_t keyword) const;
  void fuse(Values& g1, Values& g2, std::size_t keyword) const;

 private:
  const Values& at(std::size_t block, const std::string& name) const;
  Values condition(std::size_t block, Role role, std::size_t keyword, const Values& x) const;
  Values dense(std::size_t block, Role role, const Values& x) const;
  double coupling(double x) const;
};

Network random_network(std::uint32_t dim, std::uint32_t growth, std::uint32_t blocks,
                       std::size_t keywords);

// A matrix as a type of weights keeps it.
Values rounded(const Values& matrix, std::size_t outputs, WeightType type);

}  // namespace lreorg::test
