#include "tensorrt/log.h"

#include <atomic>
#include <cstdio>

#include "tensorrt/node.h"

namespace lreorg::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept {
  logger_finder = finder;
}

void log_error(const std::string& message) noexcept {
  const std::string line = std::string(kName) + ": " + message;
  nvinfer1::ILoggerFinder* finder = logger_finder;
  nvinfer1::ILogger* logger = finder == nullptr ? nullptr : finder->findLogger();
  if (logger == nullptr) {
    std::fprintf(stderr, "%s\n", line.c_str());
  } else {
    logger->log(nvinfer1::ILogger::Severity::kERROR, line.c_str());
  }
}

}  // namespace lreorg::tensorrt
