# Compilers, flags and output folders: what every target of this build shares.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release or Debug" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Portable by default: no -march=native. -g in release, because a crash report without lines helps nobody.
foreach(language C CXX)
  set(CMAKE_${language}_FLAGS_RELEASE "-O2 -g -DNDEBUG")
  set(CMAKE_${language}_FLAGS_DEBUG "-Og -g")
endforeach()

# Programs in bin/, libraries in lib/. Test programs stay beside their room (tests/<room>/), so that bin/ is what
# a user would install.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")

# Installed programs find the library beside them, wherever the tree was installed.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

find_program(MOORING_CCACHE ccache)
mark_as_advanced(MOORING_CCACHE)
if(MOORING_CCACHE)
  foreach(language C CXX)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER "${MOORING_CCACHE}")
    endif()
  endforeach()
endif()

# Own code is compiled with these; they do not travel to customers of the library.
add_library(mooring_settings INTERFACE)
target_include_directories(mooring_settings INTERFACE "${CMAKE_SOURCE_DIR}/src" "${CMAKE_SOURCE_DIR}/include")
target_compile_options(
  mooring_settings
  INTERFACE
    -Werror
    -Wall
    -Wextra
    -Wpedantic
    -Wshadow
    -Wconversion
    -Wsign-conversion
    -Wdouble-promotion
    -Wcast-align
    -Wcast-qual
    -Wformat=2
    -Wundef
    -Wimplicit-fallthrough
    -Wvla
    # Options structs are written with designated initialisers; the members left out have their defaults.
    -Wno-missing-field-initializers
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
    $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast>
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
    $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
    $<$<COMPILE_LANGUAGE:CXX>:-Wextra-semi>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond>
    $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-branches>
    $<$<CXX_COMPILER_ID:GNU>:-Wlogical-op>
    # GoogleTest's INSTANTIATE_TEST_SUITE_P and TYPED_TEST_SUITE leave the variadic part empty.
    $<$<CXX_COMPILER_ID:Clang>:-Wno-gnu-zero-variadic-macro-arguments>)

if(MOORING_SANITIZE STREQUAL "address")
  set(mooring_sanitize_flags -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(MOORING_SANITIZE STREQUAL "thread")
  set(mooring_sanitize_flags -fsanitize=thread)
elseif(NOT MOORING_SANITIZE STREQUAL "")
  message(FATAL_ERROR "MOORING_SANITIZE is '${MOORING_SANITIZE}'; use address, thread or nothing.")
endif()
if(mooring_sanitize_flags)
  # For every target, not only ours: mixing instrumented and plain code hides errors.
  add_compile_options(${mooring_sanitize_flags} -fno-omit-frame-pointer)
  add_link_options(${mooring_sanitize_flags})
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()

# Link this where the version is printed: it passes MOORING_VERSION_STRING ("0.1.0"), so project() stays the only place.
add_library(mooring_version INTERFACE)
target_compile_definitions(mooring_version INTERFACE MOORING_VERSION_STRING="${PROJECT_VERSION}")
