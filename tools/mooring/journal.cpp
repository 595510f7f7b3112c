// mooring journal: what a log on disk says, with every process dead, on a copy, and damaged. Changes nothing, but for
// `salvage`, which has a file of its own.
//
// Exit status: 0 the log is whole; 1 it is damaged (verify says what and where), or only a part of it could be shown;
// 2 it cannot be read, or wrong arguments.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "command.hpp"
#include "headers.hpp"
#include "journal/backlog_reader.hpp"
#include "journal/posix_disk.hpp"
#include "journal/recovery.hpp"
#include "journal/segment_pool.hpp"

namespace mooring::cli {
namespace {

using journal::BlockHeader;
using journal::LogScan;
using journal::LogVisitor;
using journal::MessageView;
using journal::RecordType;
using journal::RecordView;
using journal::SegmentHeader;

constexpr int kExitDamaged = 1;
constexpr int kExitUnreadable = 2;

struct Arguments {
  std::string directory;
  bool payload = false;
  std::uint64_t from_seq = 0;
};

std::string hex(std::span<const std::uint8_t> bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

std::string type_name(RecordType type) {
  switch (type) {
    case RecordType::kMessage: return "message";
    case RecordType::kCursor: return "cursor";
    case RecordType::kPark: return "park";
    case RecordType::kRelease: return "release";
    case RecordType::kGroup: return "group";
    case RecordType::kSnapshot: return "snapshot";
    case RecordType::kSeal: return "seal";
    case RecordType::kMessageId: return "message id";
  }
  return fmt::format("type {}", static_cast<unsigned>(type));
}

class Dumper : public LogVisitor {
 public:
  Dumper(bool json, const Arguments& arguments) : json_(json), arguments_(arguments) {}
  void segment(const std::string& file, const SegmentHeader& header) override {
    if (json_) {
      print_json({{"segment", file},
                  {"incarnation", header.incarnation},
                  {"first_log_pos", header.first_log_pos},
                  {"first_seq", header.first_seq},
                  {"bytes", header.segment_bytes}});
    } else {
      fmt::print("{}  incarnation {}  log position {}  first seq {}\n", file, header.incarnation, header.first_log_pos,
                 header.first_seq);
    }
  }
  void block(const BlockHeader& header, std::uint64_t offset) override {
    if (json_) {
      print_json({{"block", header.log_pos},
                  {"offset", offset},
                  {"bytes", header.bytes},
                  {"records", header.record_count},
                  {"durable_before", header.durable_before}});
    } else {
      fmt::print("  block {} at {}  {} bytes  {} records\n", header.log_pos, offset, header.bytes, header.record_count);
    }
  }
  void record(const RecordView& record, std::uint64_t block_log_pos) override {
    if (record.type == RecordType::kMessage) return;
    if (json_) {
      print_json({{"record", type_name(record.type)},
                  {"block", block_log_pos},
                  {"bytes", record.body.size()},
                  {"body", hex(record.body)}});
    } else {
      fmt::print("    {}  {} bytes\n", type_name(record.type), record.body.size());
    }
  }
  void message(const MessageView& message) override {
    if ((message.record_flags & journal::kMessageDuplicate) != 0) {
      const std::uint64_t first = journal::BacklogReader::duplicate_of(message);
      if (json_) {
        print_json({{"record", "duplicate"}, {"seq", message.seq}, {"lane", message.lane}, {"first_seq", first}});
      } else {
        fmt::print("    duplicate {}  lane {}  of message {}\n", message.seq, message.lane, first);
      }
      return;
    }
    const StoredMessage logged = stored_message(message.seq, message.frame_flags, message.bytes);
    const std::span payload(static_cast<const std::uint8_t*>(logged.message.data), logged.message.size);
    const bool has_headers = logged.has_headers;
    if (json_) {
      Json line{{"record", "message"}, {"seq", message.seq}, {"lane", message.lane}, {"bytes", payload.size()}};
      if (has_headers) line["headers_bytes"] = message.bytes.size() - payload.size();
      if (has_headers) line["headers"] = logged.headers_make_sense ? headers_to_json(logged.message) : Json();
      if (arguments_.payload) line["payload"] = hex(payload);
      print_json(line);
    } else {
      std::string headers;
      if (has_headers) headers = fmt::format("  {} bytes of headers", message.bytes.size() - payload.size());
      if (!logged.headers_make_sense) headers += " that make no sense";
      fmt::print("    message {}  lane {}  {} bytes{}{}\n", message.seq, message.lane, payload.size(), headers,
                 arguments_.payload ? "  " + hex(payload) : std::string());
    }
  }

 private:
  bool json_;
  const Arguments& arguments_;
};

// What the scan says, or exit status 2 after one sentence.
std::optional<LogScan> scan(const Context& context, const Arguments& arguments, LogVisitor& visitor) {
  const auto unreadable = [&](const Error& error) {
    if (context.json) print_json({{"error", static_cast<int>(error.code)}, {"text", error.text}});
    std::cerr << "mooring: " << error.text << '\n';
    return std::nullopt;
  };
  // Without a ring: reading needs none.
  auto disk = journal::PosixDisk::open(arguments.directory, {.use_uring = false});
  if (!disk) return unreadable(disk.error());
  journal::ScanOptions options;
  options.from_seq = arguments.from_seq;
  options.salvage = true;  // go on behind damage, to show all of it
  auto done = journal::scan_log(**disk, options, visitor);
  if (!done) return unreadable(done.error());
  return std::move(*done);
}

int exit_code_of(const LogScan& scan) {
  const journal::RecoveryRow row = journal::decide(scan.facts);
  if (journal::goes_on(row)) return kExitOk;
  return row == journal::RecoveryRow::kUnknownVersion ? kExitUnreadable : kExitDamaged;
}

int list(const Context& context, const Arguments& arguments) {
  LogVisitor nobody;
  const auto scanned = scan(context, arguments, nobody);
  if (!scanned) return kExitUnreadable;
  if (!context.json) {
    fmt::print("{:<16} {:>12} {:>11} {:>14} {:>14} {:>12} {:>9} {:>9}\n", "SEGMENT", "BYTES", "INCARNATION",
               "LOG POSITION", "TO", "NEXT SEQ", "BLOCKS", "MESSAGES");
  }
  for (const LogScan::SegmentScan& segment : scanned->segments) {
    if (context.json) {
      print_json({{"segment", journal::segment_name(segment.number)},
                  {"bytes", segment.bytes},
                  {"begun", segment.begun},
                  {"incarnation", segment.incarnation},
                  {"first_log_pos", segment.first_log_pos},
                  {"end_log_pos", segment.end_log_pos},
                  {"next_seq", segment.next_seq},
                  {"blocks", segment.blocks},
                  {"messages", segment.messages}});
    } else if (segment.begun) {
      fmt::print("{:<16} {:>12} {:>11} {:>14} {:>14} {:>12} {:>9} {:>9}\n", journal::segment_name(segment.number),
                 segment.bytes, segment.incarnation, segment.first_log_pos, segment.end_log_pos, segment.next_seq,
                 segment.blocks, segment.messages);
    } else {
      fmt::print("{:<16} {:>12} not begun\n", journal::segment_name(segment.number), segment.bytes);
    }
  }
  return exit_code_of(*scanned);
}

int dump(const Context& context, const Arguments& arguments) {
  Dumper dumper(context.json, arguments);
  const auto scanned = scan(context, arguments, dumper);
  return scanned ? exit_code_of(*scanned) : kExitUnreadable;
}

int verify(const Context& context, const Arguments& arguments) {
  LogVisitor nobody;
  const auto scanned = scan(context, arguments, nobody);
  if (!scanned) return kExitUnreadable;
  const journal::RecoveryRow row = journal::decide(scanned->facts);
  const int code = exit_code_of(*scanned);
  if (context.json) {
    Json findings = Json::array();
    for (const auto& finding : scanned->findings) {
      findings.push_back({{"file", finding.file},
                          {"offset", finding.offset},
                          {"log_pos", finding.log_pos},
                          {"damage", finding.is_damage},
                          {"text", finding.text}});
    }
    Json lost = Json::array();
    for (const auto& range : scanned->lost) {
      lost.push_back({{"from_log_pos", range.from_log_pos},
                      {"to_log_pos", range.to_log_pos},
                      {"from_seq", range.from_seq},
                      {"to_seq", range.to_seq}});
    }
    print_json({{"row", std::string(1, static_cast<char>(row))},
                {"text", journal::row_text(row)},
                {"whole", code == kExitOk},
                {"segments", scanned->segments.size()},
                {"blocks", scanned->blocks},
                {"messages", scanned->messages},
                {"first_seq", scanned->first_seq},
                {"next_seq", scanned->end.next_seq},
                {"end_log_pos", scanned->end.log_pos},
                {"groups", scanned->state.groups.size()},
                {"parked", scanned->state.parks.size()},
                {"findings", findings},
                {"lost", lost}});
    return code;
  }
  for (const auto& finding : scanned->findings) {
    fmt::print("{}: {} at offset {} (log position {}): {}\n", finding.is_damage ? "damage" : "note", finding.file,
               finding.offset, finding.log_pos, finding.text);
  }
  for (const auto& range : scanned->lost) {
    fmt::print("lost: log position {} to {}, seq {} to {} (0: not known)\n", range.from_log_pos, range.to_log_pos,
               range.from_seq, range.to_seq);
  }
  fmt::print("{}: row {}, {}; {} segments, {} blocks, {} messages, seq {} to {}\n",
             code == kExitOk ? "whole" : "damaged", static_cast<char>(row), journal::row_text(row),
             scanned->segments.size(), scanned->blocks, scanned->messages, scanned->first_seq, scanned->end.next_seq);
  return code;
}

}  // namespace

void add_journal(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* journal = app.add_subcommand("journal", "look at a log on disk, with every process dead too; salvage it");
  journal->require_subcommand(1);
  journal->footer(
      "Example:\n  mooring journal verify /var/lib/mooring/orders\n\nExit status: 0 whole, 1 damaged, 2 cannot "
      "be read");
  const auto add = [&](const std::string& name, const std::string& description,
                       int (*run)(const Context&, const Arguments&)) {
    CLI::App* command = add_command(*journal, context, name, description, "mooring journal " + name + " DIR",
                                    [&context, arguments, run] { return run(context, *arguments); });
    command->add_option("DIR", arguments->directory, "directory of the log")->required();
    return command;
  };
  add("ls", "the segments, a line each", list);
  CLI::App* dumping = add("dump", "every block and record", dump);
  dumping->add_flag("--payload", arguments->payload, "messages with their bytes, in hex");
  dumping->add_option("--from", arguments->from_seq, "messages from this seq on");
  add("verify", "check every block; says what is damaged and where", verify);
  add_journal_salvage(*journal, context);
}

}  // namespace mooring::cli
