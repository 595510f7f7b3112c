#include "operator_commands.hpp"

namespace mooring::cli {

void add_operator_commands(CLI::App& app, Context& context) {
  add_peek(app, context);
  add_tail(app, context);
}

}  // namespace mooring::cli
