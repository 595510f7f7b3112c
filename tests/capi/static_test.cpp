// A customer in C++ who links libmooring.a: the classes of mooring.hpp live beside those of the same name inside the
// archive. Built without optimisation, so that every inline function is a symbol the linker could mix up: without the
// inline namespace of mooring.hpp the first destructor of a handle is that of another class, and the program dies.
#include <mooring/mooring.hpp>

#include "support/service.hpp"

namespace {

TEST(StaticLibrary, TheCxxClassesAreNotTheOnesInsideTheArchive) {
  mooring::test::Service service;
  service.start();
  mooring::Instance instance(service.path());
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.capacity = 4096;
  instance.create_queue("linked", options);
  for (int round = 0; round < 2; ++round) {
    mooring::Producer producer = instance.open_producer("linked");
    mooring::Consumer consumer = instance.open_consumer("linked");
    ASSERT_TRUE(producer.publish("x").has_value());
    const auto message = consumer.receive();
    ASSERT_TRUE(message.has_value());
    EXPECT_TRUE(consumer.ack(*message));
  }
  EXPECT_THROW((void)instance.open_producer("nowhere"), mooring::Failure);
  instance.remove_queue("linked");
}

}  // namespace
