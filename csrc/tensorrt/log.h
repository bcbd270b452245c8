// Words for TensorRT's logger, or for standard error where the application has set none.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <string>

namespace lreorg::tensorrt {

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;
void log_error(const std::string& message) noexcept;

// TensorRT's interface does not throw: whatever goes wrong inside is said and becomes `otherwise`.
template <class Result, class Function>
Result guarded(Result otherwise, Function&& function) noexcept {
  try {
    return function();
  } catch (const std::exception& error) {
    log_error(error.what());
  }
  return otherwise;
}

}  // namespace lreorg::tensorrt
