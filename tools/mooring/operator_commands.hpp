// The commands with which operators look into queues and clear them. Each in a file of its own; operator_commands.cpp
// puts them in.
#pragma once

#include "command.hpp"

namespace mooring::cli {

void add_operator_commands(CLI::App& app, Context& context);

void add_peek(CLI::App& app, Context& context);
void add_tail(CLI::App& app, Context& context);

}  // namespace mooring::cli
