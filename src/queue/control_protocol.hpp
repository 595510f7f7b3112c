// What clients and the supervisor say to each other over the control socket (SOCK_SEQPACKET, one JSON object a packet).
//
// Only slow things go this way: opening, closing, creating. JSON, because this path is measured in hundreds of
// microseconds anyway, it is easy to extend (unknown members are ignored, missing ones refused by name), and a library
// parses it. Both sides treat what they read as untrusted: sizes, types and ranges are checked member by member.
//
//   request   {"op": "...", ...}            reply   {"code": 0, ...} or {"code": <Code>, "text": "..."}
//
//   hello            {protocol, membarrier, settled, name}  {protocol, pid, incarnation}   first on a connection
//   create_queue     {queue, options}              {created: bool}    false: it is there with the same options
//   remove_queue     {queue}                       {}
//   create_group     {queue, group, mode, start, seq} {created: bool, first}   start: GroupStart::At, tail if missing;
//                                                  first: the seq it begins with, 0 where it was there
//   remove_group     {queue, group}                {}
//   set_group        {queue, group, settings{}}    {}      all of the settings (delivery/policy.hpp), or none
//   pause_group      {queue, group, pause: bool}   {}
//   redrive          {queue, group, rate, <filter>} {count}   <filter>: dry_run, reason, older_than_ns, limit, seqs[]
//   cancel_redrive   {queue, group}                {count}       how many were left
//   purge_dead       {queue, group, <filter>}      {count}
//   open_producer    {queue}                       {lane, generation}
//   close_producer   {queue, lane, generation}     {}
//   open_consumer    {queue, group}                {seat, generation, group, log}   log: durable queues, its directory
//   close_consumer   {queue, seat, generation}     {}
//   status           {}                            {pid, uptime_seconds, clients, queues, ...}
//   shutdown         {}                            {}      the supervisor leaves; shared memory and clients stay
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "segment/queue_plan.hpp"

namespace mooring {

using Json = nlohmann::json;

inline constexpr u64 kControlProtocol = 1;
inline constexpr std::size_t kSeqsOfFilterMax = 4096;  // of a redrive or purge: they fit a packet
inline constexpr std::size_t kControlPacketBytesMax = 128 * 1024;

// Parses one packet; kBadArgument with the parser's reason. Never throws.
Result<Json> parse_packet(std::string_view packet);

// A member with its type checked: kBadArgument naming the member and what was expected.
Result<std::string> string_member(const Json& object, std::string_view name);
Result<u64> number_member(const Json& object, std::string_view name, u64 least, u64 most);
Result<bool> bool_member(const Json& object, std::string_view name);

Json queue_options_to_json(const QueueOptions& options);
Result<QueueOptions> queue_options_from_json(const Json& object);

Json reply_ok();
Json reply_error(const Error& error);
// The error that a reply carries, or the reply itself.
Result<Json> check_reply(Json reply);

}  // namespace mooring
