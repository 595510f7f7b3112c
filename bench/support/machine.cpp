// Reads /proc and /sys; what cannot be read stays empty and becomes null in reports.
#include "bench/support/machine.hpp"

#include <sys/utsname.h>

#include <fstream>

#include "bench/support/processes.hpp"

namespace mooring::bench {

namespace {

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string model;
  std::string family;
  std::string number;
  const auto value = [](const std::string& line) {
    const auto colon = line.find(": ");
    return colon == std::string::npos ? std::string() : line.substr(colon + 2);
  };
  for (std::string line; std::getline(file, line) && !line.empty();) {
    if (line.rfind("model name", 0) == 0) {
      model = value(line);
    } else if (line.rfind("cpu family", 0) == 0) {
      family = value(line);
    } else if (line.rfind("model", 0) == 0) {
      number = value(line);
    }
  }
  // Cloud guests show names such as "AMD EPYC"; family and model tell which one.
  if (!family.empty()) model += " (family " + family + ", model " + number + ")";
  return model;
}

std::string compiler_text() {
#if defined(__clang__)
  std::string text = "clang " __clang_version__;
#else
  std::string text = "g++ " __VERSION__;
#endif
#if !defined(__OPTIMIZE__)
  text += ", not optimised";
#endif
#if !defined(NDEBUG)
  text += ", debug checks";
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  text += ", sanitizer";
#endif
  return text;
}

}  // namespace

MachineFacts read_machine_facts() {
  MachineFacts facts;
  facts.cpu = cpu_model();
  facts.cores = static_cast<unsigned>(allowed_cpus().size());
  if (utsname name{}; ::uname(&name) == 0) facts.kernel = name.release;
  facts.compiler = compiler_text();
  facts.governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  facts.clocksource = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  return facts;
}

}  // namespace mooring::bench
