// A group of a queue as its files have it, for commands that read them with every process dead.
#pragma once

#include "inspect.hpp"

namespace mooring::cli {

struct GroupFiles {
  QueueFiles files;
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
};

QueueFiles open_queue_files(const InstanceFiles& instance, const std::string& queue);  // throws Failure
GroupFiles open_group_files(const InstanceFiles& instance, const std::string& queue,
                            const std::string& group);  // throws Failure
// The directory of the queue's log, if mooringd runs with the environment that we have; empty where it has none.
std::string log_directory(const Context& context, const QueueFiles& files, const std::string& queue);

}  // namespace mooring::cli
