// Headers on the command line: the options of `publish`, and how `receive` and `journal dump` show them: as JSON, as
// lines of text, and as environment variables of a command.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "command.hpp"

namespace mooring::cli {

struct HeaderOptions {
  std::string message_id;
  std::string correlation_id;
  std::string ordering_key;
  std::string reply_to;
  std::string content_type;
  std::string type;
  std::string traceparent;
  std::string on_expire;
  std::uint32_t schema_version = 0;
  std::uint32_t priority = 0;
  std::string delay;
  std::string ttl;
  std::vector<std::string> headers;  // NAME=VALUE

  // As the library takes them; points into the HeaderOptions.
  class Filled {
   public:
    explicit Filled(const HeaderOptions& given);
    Filled(const Filled&) = delete;
    Filled& operator=(const Filled&) = delete;
    const mooring_publish_options& options() const { return options_; }

   private:
    mooring_publish_options options_;
    std::vector<mooring_header> headers_;
  };
};

// `message`: the option that a message id needs, as one id is one message's.
void add_header_options(CLI::App& command, CLI::Option& message, HeaderOptions& options);

// A frame as the journal or the park file has it, as a consumer would see it.
struct StoredMessage {
  mooring_message message{};
  bool has_headers = false;
  bool headers_make_sense = true;
};
// `bytes`: of the frame behind its header; 8-aligned.
StoredMessage stored_message(std::uint64_t seq, std::uint32_t frame_flags, std::span<const std::uint8_t> bytes);

// Times as nanoseconds, texts as they are, the application's headers as a list of {"name", "value"}, since names may
// come more than once.
Json headers_to_json(const mooring_message& message);
// A line each: "seq: 17", "correlation-id: abc", "header tenant: blue". Control characters are written as \xNN.
std::string headers_to_text(const mooring_message& message);
// NAME=VALUE for the environment of a command. What is not there has no variable.
std::vector<std::string> environment_of(const mooring_message& message);
// Is this NAME=VALUE one that environment_of() sets? A command that receives by itself must not hand on those of the
// message that it was started for.
bool is_message_variable(std::string_view entry);

}  // namespace mooring::cli
