# The words in which the rest of the build is written.

# mooring_room(<name> [DEPENDS room...] [LIBRARIES lib...] [EXCLUDE file...])
#
# The library target mooring_<name> of the calling directory src/<name>: static (PIC) from all its *.cpp, or an
# INTERFACE library while it has headers only. DEPENDS names the rooms it may use; tests/tidy_test.cpp holds the same
# arrows and reads the #includes. Files are found by glob: adding a .cpp needs no edit here.
function(mooring_room name)
  cmake_parse_arguments(PARSE_ARGV 1 room "" "" "DEPENDS;LIBRARIES;EXCLUDE")
  if(room_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mooring_room(${name}): unknown words ${room_UNPARSED_ARGUMENTS}")
  endif()
  set(used_targets ${room_LIBRARIES})
  foreach(used IN LISTS room_DEPENDS)
    if(NOT TARGET mooring_${used})
      message(FATAL_ERROR "Room ${name} depends on ${used}, which is not above it in src/CMakeLists.txt.")
    endif()
    list(APPEND used_targets mooring_${used})
  endforeach()

  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  foreach(excluded IN LISTS room_EXCLUDE)
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${excluded}")
  endforeach()
  if(sources)
    add_library(mooring_${name} STATIC ${sources})
    # BUILD_INTERFACE: the settings are for this build; customers never see them.
    target_link_libraries(mooring_${name} PUBLIC ${used_targets} PRIVATE mooring_settings)
    target_include_directories(mooring_${name} PUBLIC "${CMAKE_SOURCE_DIR}/src")
  else()
    add_library(mooring_${name} INTERFACE)
    target_link_libraries(mooring_${name} INTERFACE ${used_targets})
    target_include_directories(mooring_${name} INTERFACE "${CMAKE_SOURCE_DIR}/src")
  endif()
  set_property(TARGET mooring_${name} PROPERTY mooring_depends "${room_DEPENDS}")
endfunction()

# mooring_room_objects(<out> room...): the object files of these rooms and of all rooms below them, for an archive
# that must stand alone (libmooring.a).
function(mooring_room_objects out)
  set(open ${ARGN})
  set(seen "")
  set(objects "")
  while(open)
    list(POP_FRONT open name)
    if(name IN_LIST seen)
      continue()
    endif()
    list(APPEND seen ${name})
    get_target_property(type mooring_${name} TYPE)
    if(type STREQUAL "STATIC_LIBRARY")
      list(APPEND objects "$<TARGET_OBJECTS:mooring_${name}>")
    endif()
    get_target_property(depends mooring_${name} mooring_depends)
    list(APPEND open ${depends})
  endwhile()
  set(${out} "${objects}" PARENT_SCOPE)
endfunction()

# mooring_tool(<program> [SOURCES file...] [LIBRARIES lib...])
#
# The target and program <program>: in bin/, installed. Without SOURCES: all *.cpp of the calling directory.
function(mooring_tool name)
  cmake_parse_arguments(PARSE_ARGV 1 tool "" "" "SOURCES;LIBRARIES")
  if(NOT tool_SOURCES)
    file(GLOB tool_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  endif()
  add_executable(${name} ${tool_SOURCES})
  target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE ${tool_LIBRARIES} mooring_settings mooring_version Threads::Threads)
  install(TARGETS ${name} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endfunction()

# TSan of this compiler cannot place its shadow memory where the kernel randomises addresses widely
# (vm.mmap_rnd_bits above 28); running without randomisation is the known way out.
set(MOORING_TEST_LAUNCHER "")
if(MOORING_SANITIZE STREQUAL "thread")
  find_program(MOORING_SETARCH setarch)
  mark_as_advanced(MOORING_SETARCH)
  if(MOORING_SETARCH)
    execute_process(COMMAND "${MOORING_SETARCH}" -R true RESULT_VARIABLE setarch_result OUTPUT_QUIET ERROR_QUIET)
    if(setarch_result EQUAL 0)
      set(MOORING_TEST_LAUNCHER "${MOORING_SETARCH}" -R)
    endif()
  endif()
endif()

# mooring_case(<test> COMMAND word... LABELS label... [TIMEOUT seconds])
#
# One CTest test from any command: watchdog, labels, sanitizer options, and how many cores it needs. The known labels:
#   unit         deterministic, milliseconds         stress       seeded, bounded
#   crash        processes killed or stopped         model        interleaving explorer, Spin
#   cli          the programs as a user runs them    bench-smoke  benchmarks at their smallest
#   threads      all roles as threads over one mapping; what the tsan preset runs
#   asan         added to the units in the asan preset
function(mooring_case name)
  cmake_parse_arguments(PARSE_ARGV 1 case "" "TIMEOUT" "COMMAND;LABELS")
  set(known unit stress crash model cli bench-smoke threads asan)
  if(NOT case_LABELS)
    message(FATAL_ERROR "Test ${name} needs LABELS: at least one of ${known}.")
  endif()
  foreach(label IN LISTS case_LABELS)
    if(NOT label IN_LIST known)
      message(FATAL_ERROR "Test ${name}: label '${label}' is not one of ${known}.")
    endif()
  endforeach()
  if(NOT case_TIMEOUT)
    set(case_TIMEOUT 60)
  endif()
  if(MOORING_SANITIZE)
    math(EXPR case_TIMEOUT "${case_TIMEOUT} * 5")
  endif()
  # Several processes or threads that wait for each other: two such tests at once on two cores measure the scheduler.
  set(processors 1)
  foreach(label stress crash threads bench-smoke)
    if(label IN_LIST case_LABELS)
      set(processors 2)
    endif()
  endforeach()
  add_test(NAME ${name} COMMAND ${case_COMMAND})
  set_tests_properties(
    ${name}
    PROPERTIES LABELS "${case_LABELS}"
               TIMEOUT ${case_TIMEOUT}
               PROCESSORS ${processors}
               ENVIRONMENT "TSAN_OPTIONS=halt_on_error=1;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# mooring_test(<program> SOURCES file... [LIBRARIES lib...] LABELS label... [TIMEOUT seconds] [PARAMETERS name...])
#
# A GoogleTest program and the CTest test that runs all of it. gtest_main is there for sources without a main().
# PARAMETERS: a CTest test for each of these parameters of its cases instead, <program>_<name>, so that they run side by
# side: for programs that wait more than they compute.
# Sources see MOORING_SOURCE_DIR and MOORING_BIN_DIR, and include from tests/ ("support/...") and src/.
function(mooring_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS;PARAMETERS")
  if(NOT test_SOURCES)
    message(FATAL_ERROR "mooring_test(${name}) needs SOURCES.")
  endif()
  add_executable(${name} ${test_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  target_compile_definitions(
    ${name} PRIVATE MOORING_SOURCE_DIR="${CMAKE_SOURCE_DIR}" MOORING_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  target_link_libraries(${name} PRIVATE ${test_LIBRARIES} mooring_settings GTest::gmock GTest::gtest_main)
  foreach(parameter IN LISTS test_PARAMETERS)
    mooring_case(
      ${name}_${parameter}
      COMMAND ${MOORING_TEST_LAUNCHER} "$<TARGET_FILE:${name}>" "--gtest_filter=*/${parameter}"
      LABELS ${test_LABELS}
      TIMEOUT ${test_TIMEOUT})
    set_tests_properties(${name}_${parameter} PROPERTIES PROCESSORS 1)
  endforeach()
  if(NOT test_PARAMETERS)
    mooring_case(
      ${name}
      COMMAND ${MOORING_TEST_LAUNCHER} "$<TARGET_FILE:${name}>"
      LABELS ${test_LABELS}
      TIMEOUT ${test_TIMEOUT})
  endif()
endfunction()

# mooring_bench(<program> [SOURCES file...] [LIBRARIES lib...] [SMOKE argument...] [TIMEOUT seconds])
#
# A Google Benchmark program in bin/. It also runs at its smallest as a CTest test (bench-smoke), so that it cannot rot;
# SMOKE replaces the arguments of that run. Without SOURCES: <program>.cpp.
function(mooring_bench name)
  if(NOT MOORING_BENCH)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 bench "" "TIMEOUT" "SOURCES;LIBRARIES;SMOKE")
  if(NOT bench_SOURCES)
    set(bench_SOURCES ${name}.cpp)
  endif()
  if(NOT bench_SMOKE)
    set(bench_SMOKE --benchmark_min_time=0.001)
  endif()
  add_executable(${name} ${bench_SOURCES})
  target_include_directories(${name} PRIVATE "${CMAKE_SOURCE_DIR}/bench")
  target_link_libraries(
    ${name} PRIVATE ${bench_LIBRARIES} mooring_settings mooring_version benchmark::benchmark_main benchmark::benchmark)
  mooring_case(
    ${name}
    COMMAND "$<TARGET_FILE:${name}>" ${bench_SMOKE}
    LABELS bench-smoke
    TIMEOUT ${bench_TIMEOUT})
endfunction()
