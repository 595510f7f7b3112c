// mooring shutdown: ask the supervisor to leave.
#include <fmt/format.h>

#include "command.hpp"

namespace mooring::cli {

void add_shutdown(CLI::App& app, Context& context) {
  add_command(app, context, "shutdown", "ask the supervisor to leave; queues stay in shared memory, clients go on",
              "mooring shutdown --instance /run/mooring", [&context] {
                connect(context).shutdown_supervisor();
                if (context.json) {
                  print_json({{"shutdown", true}});
                } else {
                  fmt::print("the supervisor leaves; queues stay in shared memory\n");
                }
                return kExitOk;
              });
}

}  // namespace mooring::cli
