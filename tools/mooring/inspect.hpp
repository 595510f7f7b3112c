// The report on a queue (inspect/queue_report.hpp) as the commands want it: failures thrown, and as JSON.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"
#include "inspect/queue_report.hpp"

namespace mooring::cli {

// All throw Failure.
InstanceFiles open_instance_files(const Context& context);
QueueReport inspect_queue(const InstanceFiles& instance, const std::string& queue);
std::vector<std::string> queue_names(const InstanceFiles& instance);

Json to_json(const QueueReport& report);
Json to_json(const HolderReport& holder);

}  // namespace mooring::cli
