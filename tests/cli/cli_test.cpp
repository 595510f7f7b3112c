// The command line as a user or a script drives it: each verb with --json, exit codes, texts, Ctrl-C, pipes.
#include <time.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using Json = nlohmann::json;

std::uint64_t wall_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Ran {
  int exit_code = -1;
  std::string out;
  std::vector<Json> objects() const {
    std::vector<Json> found;
    for (std::size_t at = 0; at < out.size();) {
      const std::size_t end = std::min(out.find('\n', at), out.size());
      found.push_back(Json::parse(out.substr(at, end - at), nullptr, false));
      at = end + 1;
    }
    return found;
  }
};

class Cli : public testing::Test {
 protected:
  // A shell line, in which `mooring` is ours. Standard error joins where the line says 2>&1.
  Ran run(const std::string& line) {
    Ran ran;
    const std::string whole = "PATH=" MOORING_BIN_DIR ":$PATH; cd " + service_.root() + "; " + line;
    std::FILE* pipe = ::popen(whole.c_str(), "r");
    if (pipe == nullptr) return ran;
    char buffer[4096];
    for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, got);
    const int status = ::pclose(pipe);
    ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ran;
  }
  Json one(const std::string& line) {
    const Ran ran = run(line);
    EXPECT_EQ(ran.exit_code, 0) << line;
    const auto objects = ran.objects();
    EXPECT_EQ(objects.size(), 1U) << ran.out;
    return objects.empty() || objects[0].is_discarded() ? Json::object() : objects[0];
  }
  Service service_;
};

TEST_F(Cli, AGroupStartsWhereItIsAskedTo) {
  service_.start();
  EXPECT_EQ(run("mooring create q --capacity 4096 && for i in 1 2 3; do mooring publish q m$i; done").exit_code, 0);
  EXPECT_EQ(run("mooring create q --group all --start oldest").exit_code, 0);
  EXPECT_EQ(run("mooring receive q --group all").out, "m1\nm2\nm3\n");
  const auto seq = one("mooring receive q --json --count 1")["seq"].get<std::uint64_t>();
  const Ran said = run("mooring create q --group rest --start " + std::to_string(seq + 2));
  EXPECT_NE(said.out.find("begins with message " + std::to_string(seq + 2)), std::string::npos) << said.out;
  EXPECT_EQ(run("mooring receive q --group rest").out, "m3\n");
  const Ran refused = run("mooring create q --group far --start " + std::to_string(seq + 9) + " 2>&1");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.out.find("the next one to come is " + std::to_string(seq + 3)), std::string::npos) << refused.out;
  EXPECT_NE(run("mooring create q --group far --start yesterday 2>&1").exit_code, 0);
  EXPECT_EQ(run("mooring info q").out.find("far (competing)"), std::string::npos);
}

TEST_F(Cli, EachVerbSpeaksJson) {
  service_.start();
  EXPECT_EQ(one("mooring create orders --capacity 4096 --group billing --json")["queue"], "orders");
  EXPECT_EQ(one("mooring publish orders hello --json")["published"], 1);
  const Json message = one("mooring receive orders --json");
  EXPECT_EQ(message["data"], "hello");
  EXPECT_EQ(message["attempt"], 1);
  EXPECT_EQ(message["redelivered"], false);
  const Json row = one("mooring ls --json");
  EXPECT_EQ(row["queue"], "orders");
  EXPECT_EQ(row["groups"].size(), 2U);
  const Json info = one("mooring info orders --json");
  EXPECT_EQ(info["capacity_messages"], 4096);
  EXPECT_EQ(info["state"], "open");
  EXPECT_EQ(info["groups"][0]["ready"], 0);
  EXPECT_EQ(info["groups"][1]["ready"], 1);
  EXPECT_EQ(run("mooring consumers orders --json").out, "");
  EXPECT_EQ(one("mooring rm orders --group billing --json")["group"], "billing");
  EXPECT_EQ(one("mooring rm orders --json")["removed"], "orders");
  EXPECT_EQ(run("mooring ls --json").out, "");
  EXPECT_EQ(one("mooring shutdown --json")["shutdown"], true);
  EXPECT_EQ(service_.wait_supervisor(), 0);
}

TEST_F(Cli, EndsAsScriptsExpect) {
  service_.start();
  EXPECT_EQ(run("mooring 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring create 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring create q --kind odd 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring --help").exit_code, 0);
  const Ran missing = run("mooring publish nowhere x 2>&1");
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_NE(missing.out.find("no queue nowhere"), std::string::npos) << missing.out;
  const Ran json = run("mooring info nowhere --json 2>/dev/null");
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_EQ(json.objects().at(0)["error"], -5001);
  run("mooring create q --capacity 4096");
  const Ran other = run("mooring create q --capacity 8192 2>&1");
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.out.find("capacity"), std::string::npos) << other.out;
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
  EXPECT_EQ(run("mooring receive q --follow --timeout 0.05").exit_code, 0);
}

TEST_F(Cli, PublishesLinesOfAFileAndOfAPipeAtARate) {
  service_.start();
  run("mooring create q --capacity 4096");
  EXPECT_EQ(one("seq 1 100 | mooring publish q --json")["published"], 100);
  EXPECT_EQ(one("seq 101 105 > lines; mooring publish q --file lines --rate 1000 --json")["published"], 5);
  EXPECT_EQ(run("mooring publish q --file nowhere 2>/dev/null").exit_code, 1);
  EXPECT_EQ(run("mooring receive q --count 105 | cksum").out, run("seq 1 105 | cksum").out);
}

TEST_F(Cli, PublishersWithoutAConsumerDoNotRunOutOfLanes) {
  service_.start();
  run("mooring create q --capacity 4096 --producers 4");
  const Ran published = run("for i in $(seq 200); do mooring publish q $i || exit 1; done 2>&1");
  EXPECT_EQ(published.exit_code, 0) << published.out;
  EXPECT_EQ(run("mooring receive q --count 200 | cksum").out, run("seq 200 | cksum").out);
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
}

TEST_F(Cli, ExecAcknowledgesOrGivesBack) {
  service_.start();
  run("mooring create q --capacity 4096");
  run("seq 1 3 | mooring publish q");
  EXPECT_EQ(run("mooring receive q --count 3 --exec 'cat >> got; echo $MOORING_ATTEMPT >> got'").exit_code, 0);
  EXPECT_EQ(run("cat got").out, "11\n21\n31\n");
  run("mooring publish q again");
  EXPECT_EQ(run("mooring receive q --exec false").exit_code, 0);
  const Json back = one("mooring receive q --count 1 --json");
  EXPECT_EQ(back["data"], "again");
  EXPECT_EQ(back["attempt"], 2);
  EXPECT_EQ(back["redelivered"], true);
  run("mooring publish q once-more");
  one("mooring receive q --nack --json");
  EXPECT_EQ(one("mooring receive q --count 1 --json")["attempt"], 2);
}

TEST_F(Cli, DeadLettersAreSeenGivenBackExportedAndPurged) {
  service_.start();
  run("mooring create q --capacity 4096");
  EXPECT_EQ(one("mooring set q max_deliveries=1 retry_initial=250ms --json")["set"]["retry_initial"], "250ms");
  EXPECT_EQ(one("mooring info q --json")["groups"][0]["settings"]["max_deliveries"], "1");
  const Ran typo = run("mooring set q retry_intial=1s 2>&1");
  EXPECT_EQ(typo.exit_code, 1);
  EXPECT_NE(typo.out.find("did you mean retry_initial?"), std::string::npos) << typo.out;
  EXPECT_EQ(run("mooring set q retry_initial 2>/dev/null").exit_code, 1);
  EXPECT_EQ(run("mooring set q retry_initial=5 2>/dev/null").exit_code, 1);

  run("seq 1 6 | mooring publish q");
  run("mooring receive q --count 3 --nack --code 7 --reason 'no such customer'");
  run("mooring receive q --count 3 --reject --reason never");
  const auto dead = [&] { return one("mooring info q --json")["groups"][0]["dead"]; };
  for (int look = 0; look < 1000 && dead() != 6; ++look) {
  }
  ASSERT_EQ(dead(), 6);
  const auto rows = run("mooring dlq ls q --json").objects();
  ASSERT_EQ(rows.size(), 6U);
  EXPECT_EQ(rows[0]["reason"], "max_deliveries");
  EXPECT_EQ(rows[0]["text"], "no such customer");
  EXPECT_EQ(rows[0]["code"], 7);
  EXPECT_EQ(rows[5]["reason"], "rejected");
  EXPECT_EQ(run("mooring dlq ls q --reason rejected --limit 2 --json").objects().size(), 2U);
  EXPECT_EQ(run("mooring dlq ls q --older-than 1h --json").out, "");
  EXPECT_EQ(run("mooring dlq ls q --reason silly 2>/dev/null").exit_code, 1);
  const std::string seq = rows[1]["seq"].dump();
  const Json shown = one("mooring dlq show q " + seq + " --json");
  EXPECT_EQ(shown["data"], "2");
  EXPECT_EQ(shown["attempts"].size(), 1U);
  EXPECT_EQ(shown["attempts"][0]["consumer"], "mooring");
  EXPECT_NE(run("mooring dlq show q " + seq).out.find("payload\n2\n"), std::string::npos);
  EXPECT_EQ(run("mooring dlq show q 1 2>/dev/null").exit_code, 1);

  // With every process dead, too.
  EXPECT_EQ(run("mooring shutdown").exit_code, 0);
  EXPECT_EQ(service_.wait_supervisor(), 0);
  EXPECT_EQ(run("mooring dlq ls q --json").objects().size(), 6U);
  EXPECT_EQ(run("mooring dlq export q --file dead.jsonl").exit_code, 0);
  EXPECT_EQ(run("wc -l < dead.jsonl").out, "6\n");
  EXPECT_EQ(run("mooring dlq redrive q 2>/dev/null").exit_code, 1) << "nobody serves";
  service_.start();

  EXPECT_EQ(one("mooring dlq redrive q --dry-run --json")["redriven"], 6);
  EXPECT_EQ(one("mooring dlq redrive q --canary 1 --json")["redriven"], 1);
  EXPECT_EQ(run("mooring receive q --count 1").out, "1\n");
  EXPECT_EQ(one("mooring dlq redrive q --seq " + seq + " --json")["redriven"], 1);
  EXPECT_EQ(run("mooring receive q --count 1").out, "2\n");
  EXPECT_EQ(run("mooring dlq purge q 2>/dev/null").exit_code, 1) << "it asks which";
  EXPECT_EQ(one("mooring dlq purge q --reason rejected --json")["purged"], 3);
  EXPECT_EQ(one("mooring dlq purge q --all --json")["purged"], 1);
  EXPECT_EQ(dead(), 0);
}

TEST_F(Cli, APausedGroupSaysSoAndGoesOn) {
  service_.start();
  run("mooring create q --capacity 4096");
  run("mooring publish q hello");
  EXPECT_EQ(one("mooring pause q --json")["paused"], true);
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
  EXPECT_NE(run("mooring info q").out.find("mooring resume"), std::string::npos);
  EXPECT_EQ(one("mooring resume q --json")["paused"], false);
  EXPECT_EQ(run("mooring receive q").out, "hello\n");
}

TEST_F(Cli, HeadersGoInAndComeOut) {
  service_.start();
  run("mooring create q --capacity 4096");
  const std::string publish =
      "mooring publish q hello --message-id m1 --correlation-id c1 --reply-to answers --content-type text/plain "
      "--type order.created --schema-version 2 --key customer-7 --priority 9 --ttl 3600 --on-expire drop --delay 0.5 "
      "--traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 --header tenant=blue --header note=a=b "
      "--header x-tenant= ";
  const std::uint64_t before_ns = wall_ns();
  EXPECT_EQ(run(publish).exit_code, 0);
  const std::uint64_t after_ns = wall_ns();
  const Json message = one("mooring receive q --count 1 --json");
  EXPECT_EQ(message["data"], "hello");
  EXPECT_EQ(message["size"], 5);
  const Json& headers = message["headers"];
  EXPECT_EQ(headers["message_id"], "m1");
  EXPECT_EQ(headers["correlation_id"], "c1");
  EXPECT_EQ(headers["reply_to"], "answers");
  EXPECT_EQ(headers["content_type"], "text/plain");
  EXPECT_EQ(headers["type"], "order.created");
  EXPECT_EQ(headers["schema_version"], 2);
  EXPECT_EQ(headers["ordering_key"], "customer-7");
  EXPECT_EQ(headers["priority"], 9);
  EXPECT_EQ(headers["on_expire"], "drop");
  EXPECT_EQ(headers["traceparent"], "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  const std::uint64_t deliver_at_ns = headers["deliver_at_ns"];
  EXPECT_GE(deliver_at_ns, before_ns + 500'000'000);
  EXPECT_LE(deliver_at_ns, after_ns + 500'000'000);
  EXPECT_EQ(headers["expires_at_ns"].get<std::uint64_t>() - deliver_at_ns, 3'599'500'000'000U);
  EXPECT_EQ(headers["application"], Json::parse(R"([{"name":"tenant","value":"blue"},{"name":"note","value":"a=b"},
                                                    {"name":"x-tenant","value":""}])"));
  EXPECT_EQ(run("mooring publish q plain; mooring receive q --json | grep -c headers").out, "1 published\n0\n");
}

TEST_F(Cli, HeadersAsTextAndInTheEnvironment) {
  service_.start();
  run("mooring create q --capacity 4096");
  const std::string publish =
      "mooring publish q hello --correlation-id \"$(printf 'c\\033[1')\" --header x-tenant=blue";
  run(publish);
  EXPECT_EQ(run("mooring receive q --headers | tail -n +2").out,
            "attempt: 1\ncorrelation-id: c\\x1b[1\nheader x-tenant: blue\n\nhello\n");
  run(publish + " --priority 3 --header x_tenant=red");
  EXPECT_EQ(run("mooring receive q --count 1 --exec 'env | grep ^MOORING_ | grep -v -e INSTANCE -e _SHM_ -e MOORINGD "
                "-e AUTOSTART -e MOORING_SEQ | sort'")
                .out,
            "MOORING_ATTEMPT=1\nMOORING_CORRELATION_ID=c\033[1\nMOORING_HEADER_X_TENANT=blue\n"
            "MOORING_PRIORITY=3\n");
  // What a command was started with says nothing of the messages that it receives itself.
  run("mooring publish q plain");
  EXPECT_EQ(run("export MOORING_CORRELATION_ID=other MOORING_HEADER_A=b MOORING_SEQ=9; mooring receive q --count 1 "
                "--exec 'echo $MOORING_CORRELATION_ID$MOORING_HEADER_A$MOORING_SEQ | grep -c -e other -e b -e ^9; "
                "true'")
                .out,
            "0\n");
}

TEST_F(Cli, HeadersThatAreWrongAreRefused) {
  service_.start();
  run("mooring create q --capacity 4096");
  EXPECT_EQ(run("mooring publish q x --header novalue 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring publish q x --header =value 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring publish q --message-id one < /dev/null 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring publish q x --ttl 0 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring publish q x --ttl 1e12 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring publish q x --on-expire drop 2>/dev/null").exit_code, 2);
  const Ran trace = run("mooring publish q x --traceparent 01 2>&1");
  EXPECT_EQ(trace.exit_code, 1);
  EXPECT_NE(trace.out.find("traceparent"), std::string::npos) << trace.out;
  EXPECT_EQ(run("mooring publish q x --priority 256 2>/dev/null").exit_code, 1);
  EXPECT_EQ(run("mooring publish q x --delay 2 --ttl 1 2>/dev/null").exit_code, 1);
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
}

TEST_F(Cli, TheJournalShowsHeaders) {
  service_.start();
  run("mooring create bills --capacity 4096 --durability durable");
  run("mooring publish bills plain; mooring publish bills 'pay 42' --type bill --header tenant=blue");
  service_.kill_supervisor();
  const Ran dumped = run("mooring journal dump instance/data/q-bills --payload --json | grep '\"message\"'");
  const auto messages = dumped.objects();
  ASSERT_EQ(messages.size(), 2U) << dumped.out;
  EXPECT_EQ(messages[0]["payload"], "706c61696e");
  EXPECT_FALSE(messages[0].contains("headers"));
  EXPECT_EQ(messages[1]["payload"], "706179203432");
  EXPECT_EQ(messages[1]["bytes"], 6);
  EXPECT_EQ(messages[1]["headers"]["type"], "bill");
  EXPECT_EQ(messages[1]["headers"]["application"][0]["value"], "blue");
  EXPECT_EQ(run("mooring journal dump instance/data/q-bills | grep -c '6 bytes  48 bytes of headers'").out, "1\n");
}

TEST_F(Cli, CtrlCEndsAFollowerInGoodOrder) {
  service_.start();
  run("mooring create q --capacity 4096; mooring publish q first");
  // The message it prints is how we know that it waits for the next one by now, or will.
  const Ran ran = run(
      "mkfifo pipe; mooring receive q --follow > pipe & reader=$!; read line < pipe; kill -INT $reader; wait $reader; "
      "echo \"$line $?\"");
  EXPECT_TRUE(ran.out == "first 130\n") << ran.out;
  EXPECT_EQ(run("mooring consumers q --json").out, "");
}

TEST_F(Cli, SaysWhatToDoWhereNobodyServes) {
  const Ran none = run("mooring ls 2>&1");
  EXPECT_EQ(none.exit_code, 1);
  const Ran publish = run("mooring publish q x 2>&1");
  EXPECT_EQ(publish.exit_code, 1);
  EXPECT_NE(publish.out.find("mooringd"), std::string::npos) << publish.out;
  EXPECT_NE(publish.out.find("MOORING_AUTOSTART"), std::string::npos) << publish.out;
  const Ran wrong = run("mooring publish q x --instance /no/such/place 2>&1");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.out.find("/no/such/place"), std::string::npos) << wrong.out;
  // Started on demand.
  EXPECT_EQ(run("MOORING_AUTOSTART=1 mooring create q --capacity 4096").exit_code, 0);
  EXPECT_EQ(run("mooring publish q x").exit_code, 0);
  EXPECT_EQ(run("mooring shutdown").exit_code, 0);
}

// As a distribution installs it: the library in lib/<triple> of the prefix.
TEST_F(Cli, FindsMooringdBesideAMultiArchLibrary) {
  run("mkdir -p prefix/bin prefix/lib/some-linux-gnu");
  run("cp " MOORING_BIN_DIR "/mooringd prefix/bin; cp -P " MOORING_BIN_DIR
      "/../lib/libmooring.so* prefix/lib/some-linux-gnu");
  const Ran created =
      run("unset MOORING_MOORINGD; export MOORING_AUTOSTART=1; LD_LIBRARY_PATH=$PWD/prefix/lib/some-linux-gnu "
          "PATH=/usr/bin:/bin " MOORING_BIN_DIR "/mooring create q --capacity 4096 2>&1");
  EXPECT_EQ(created.exit_code, 0) << created.out;
  EXPECT_EQ(run("readlink /proc/$(cat instance/mooringd.pid)/exe").out, service_.root() + "/prefix/bin/mooringd\n");
  EXPECT_EQ(run("mooring shutdown").exit_code, 0);
}

TEST_F(Cli, LooksAtQueuesWithEveryProcessDead) {
  service_.start();
  run("mooring create q --capacity 4096; mooring publish q x");
  service_.kill_supervisor();
  EXPECT_EQ(one("mooring info q --json")["groups"][0]["ready"], 1);
  EXPECT_EQ(one("mooring ls --json")["queue"], "q");
}

// Killed with its shared memory lost, as by a power cut: what was acknowledged is there again, and the log can be read
// without anybody.
TEST_F(Cli, ADurableQueueComesBackFromItsLog) {
  service_.start();
  EXPECT_EQ(one("mooring create bills --capacity 4096 --durability durable --json")["durability"], "durable");
  const Json published = one("seq 1 1000 | mooring publish bills --progress-file progress --json");
  EXPECT_EQ(published["published"], 1000);
  EXPECT_EQ(published["acknowledged"], 1000);
  EXPECT_EQ(run("cat progress").out, "1000\n");
  service_.kill_supervisor();
  const Ran verified = run("mooring journal verify instance/data/q-bills");
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  EXPECT_EQ(Json::parse(run("mooring journal verify instance/data/q-bills --json").out)["messages"], 1000);
  EXPECT_EQ(run("mooring journal ls instance/data/q-bills").out.substr(0, 7), "SEGMENT");
  EXPECT_EQ(run("mooring journal dump instance/data/q-bills | grep -c ' message [0-9]'").out, "1000\n");
  run("rm -rf \"$MOORING_SHM_ROOT\"/mooring-*");
  service_.start();
  EXPECT_EQ(run("mooring receive bills --count 1000 --ack").out, run("seq 1 1000").out);
  service_.kill_supervisor();

  // One byte of the first message's block.
  run("cp -r instance/data/q-bills copy; "
      "f=$(ls copy/log-* | head -1); printf X | dd of=$f bs=1 seek=9000 conv=notrunc 2>/dev/null");
  const Ran damaged = run("mooring journal verify copy 2>&1");
  EXPECT_EQ(damaged.exit_code, 1) << damaged.out;
  const std::string file = run("basename $(ls copy/log-* | head -1)").out.substr(0, 14);
  const Json verdict = Json::parse(run("mooring journal verify copy --json").out);
  EXPECT_EQ(verdict["row"], "E");
  EXPECT_EQ(verdict["whole"], false);
  ASSERT_EQ(verdict["findings"].size(), 1U) << verdict;
  EXPECT_EQ(verdict["findings"][0]["file"], file);
  const int offset = verdict["findings"][0]["offset"];  // of the block
  EXPECT_TRUE(offset % 4096 == 0 && offset >= 4096 && offset <= 9000) << offset;
  EXPECT_NE(damaged.out.find(file + " at offset " + std::to_string(offset)), std::string::npos) << damaged.out;
  EXPECT_EQ(run("mooring journal verify /no/such/place 2>&1").exit_code, 2);
  // What is whole can be looked at all the same.
  const Ran listed = run("mooring journal ls copy --json | head -1");
  ASSERT_EQ(listed.exit_code, 0) << listed.out;
  EXPECT_EQ(Json::parse(listed.out)["segment"], file);
  EXPECT_EQ(run("mooring journal dump copy | head -1").out.substr(0, 14), file);
}

TEST_F(Cli, ADamagedLogIsSalvagedByHandAndNothingIsDeleted) {
  service_.start();
  one("mooring create bills --capacity 4096 --durability durable --journal-quota 64M --json");
  const Json info = one("mooring info bills --json");
  EXPECT_EQ(info["durability"], "durable");
  EXPECT_EQ(info["journal_quota_bytes"], 64 << 20);
  EXPECT_EQ(run("mooring create bills --capacity 4096 --durability durable 2>&1").exit_code, 1);
  run("seq -f bill-%g 1 500 | mooring publish bills; seq -f bill-%g 501 1000 | mooring publish bills");
  const std::string salvage = "mooring journal salvage instance/data/q-bills";
  const std::string files = "ls -l --time-style=full-iso instance/data/q-bills";

  // Not while somebody serves it.
  const Ran served = run(salvage + " 2>&1");
  EXPECT_EQ(served.exit_code, 2);
  EXPECT_NE(served.out.find("in use"), std::string::npos) << served.out;
  service_.kill_supervisor();

  // Nothing to do for a whole one.
  const std::string before = run(files).out;
  const Json whole = one(salvage + " --json");
  EXPECT_EQ(whole["salvaged"], false);
  EXPECT_EQ(run(files).out, before);
  EXPECT_EQ(run("mooring journal salvage /no/such/place 2>&1").exit_code, 2);

  // One byte of bill 300; the block behind it proves that it was announced. Not while its memory is there; then
  // mooringd refuses it, and leaves it as it is.
  run("f=$(ls instance/data/q-bills/log-* | head -1); at=$(grep -abo bill-300 $f | tail -1 | cut -d: -f1); "
      "printf X | dd of=$f bs=1 seek=$at conv=notrunc 2>/dev/null; cat instance/data/q-bills/log-* | cksum > sum");
  EXPECT_EQ(run("mooring journal verify instance/data/q-bills > /dev/null").exit_code, 1);
  const Ran remembered = run(salvage + " 2>&1");
  EXPECT_EQ(remembered.exit_code, 2);
  EXPECT_NE(remembered.out.find("shared memory"), std::string::npos) << remembered.out;
  run("rm -rf \"$MOORING_SHM_ROOT\"/mooring-*");
  service_.begin();
  EXPECT_TRUE(service_.logged("mooring journal salvage"));
  service_.kill_supervisor();
  const Ran ran = run(salvage + " --json");
  EXPECT_EQ(ran.exit_code, 1) << ran.out;
  const Json salvaged = ran.objects().at(0);
  EXPECT_EQ(salvaged["salvaged"], true);
  EXPECT_EQ(salvaged["row"], "E");
  EXPECT_GE(salvaged["lost"].size(), 1U);
  EXPECT_GE(salvaged["quarantined"].size(), 1U);
  EXPECT_EQ(run("cat instance/data/q-bills/quarantine-* | cksum").out, run("cat sum").out);
  EXPECT_EQ(run("mooring journal verify instance/data/q-bills > /dev/null").exit_code, 0);
  EXPECT_EQ(one(salvage + " --json")["salvaged"], false);

  // The rest is there again: all but what was said to be lost, in order.
  service_.start();
  const std::string count = std::to_string(salvaged["messages"].get<int>());
  const std::string rest = run("mooring receive bills --ack --count " + count).out;
  EXPECT_EQ(run("mooring receive bills").exit_code, 4);
  EXPECT_NE(rest.find("bill-700\nbill-701\n"), std::string::npos);
  EXPECT_EQ(rest.find("bill-300\n"), std::string::npos);
  EXPECT_EQ(one("mooring publish bills after --json")["acknowledged"], 1);
}

}  // namespace
}  // namespace mooring
