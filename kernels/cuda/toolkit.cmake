# Decides whether the CUDA sources are built.
#   in   LREORG_BUILD_CUDA   0, 1 (an error where it is impossible) or auto
#        LREORG_CUDA_ARCHS   explicit architectures; every one must be known to the toolkit
#   out  LREORG_CUDA_ENABLED, LREORG_CUDA_REASON (why not), LREORG_CUDA_BUILT_ARCHS
set(LREORG_CUDA_DEFAULT_ARCHS 80 86 89 90a 100 120)
set(LREORG_CUDA_ENABLED OFF)
set(LREORG_CUDA_REASON "")
set(LREORG_CUDA_BUILT_ARCHS "")

if(NOT LREORG_BUILD_CUDA MATCHES "^(0|1|auto)$")
  message(FATAL_ERROR "LREORG_BUILD_CUDA is '${LREORG_BUILD_CUDA}'; allowed are 0, 1 and auto.")
endif()

if(LREORG_BUILD_CUDA STREQUAL "0")
  set(LREORG_CUDA_REASON "LREORG_BUILD_CUDA=0 was set when it was built")
else()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(LREORG_CUDA_ENABLED ON)
  else()
    set(LREORG_CUDA_REASON "no working CUDA compiler was found when it was built")
  endif()
endif()

if(LREORG_BUILD_CUDA STREQUAL "1" AND NOT LREORG_CUDA_ENABLED)
  message(FATAL_ERROR "LREORG_BUILD_CUDA=1, but no working CUDA compiler was found; put nvcc on "
                      "PATH or name it in CUDACXX, or build with LREORG_BUILD_CUDA=0.")
endif()

if(LREORG_CUDA_ENABLED)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch
                  OUTPUT_VARIABLE known COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[0-9]+" known "${known}")
  if(LREORG_CUDA_ARCHS STREQUAL "")
    set(requested ${LREORG_CUDA_DEFAULT_ARCHS})
  else()
    set(requested ${LREORG_CUDA_ARCHS})
  endif()
  foreach(arch IN LISTS requested)
    # The toolkit lists 90 for 90a, 90-real and 90-virtual alike.
    string(REGEX MATCH "^[0-9]+" number "${arch}")
    if(number IN_LIST known)
      list(APPEND LREORG_CUDA_BUILT_ARCHS ${arch})
    elseif(NOT LREORG_CUDA_ARCHS STREQUAL "")
      message(FATAL_ERROR "LREORG_CUDA_ARCHS names '${arch}', which this toolkit does not know; "
                          "it knows ${known}.")
    endif()
  endforeach()
  set(CMAKE_CUDA_ARCHITECTURES ${LREORG_CUDA_BUILT_ARCHS})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${LREORG_CUDA_BUILT_ARCHS}")
else()
  message(STATUS "No CUDA sources: ${LREORG_CUDA_REASON}")
endif()
