//! Makes the Rust types of the messages. No protoc is needed: protox is a compiler of protobuf in Rust.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/namespace.proto",
        "proto/attendance.proto",
        "proto/bulk.proto",
        "proto/record.proto",
        "proto/job.proto",
        "proto/task.proto",
        "proto/attempt.proto",
        "proto/job_record.proto",
        "proto/cluster.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
