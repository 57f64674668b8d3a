//! Inputs that are written anew between the submission of a job and its maps.

use std::fs;

use gristmill_tests::{Cluster, ClusterOptions, S3, file_uri, path_of};

#[test]
fn a_job_whose_input_was_written_anew_fails_and_names_it_though_it_is_as_long_as_before() {
    let s3 = S3::start();
    let env = s3.variables().into_iter().collect();
    let options = ClusterOptions { workers: 1, slots: 1, env, ..Default::default() };
    let cluster = Cluster::with(options);
    cluster.wait_for_all_slots();
    let text = cluster.path("text");
    let put = |program: gristmill_tests::Program, to: &str| {
        program.args(["-put", "-f"]).arg(&text).arg(to).run().succeeded();
    };
    let write = |words: &str| {
        fs::write(&text, words).expect("a file");
        put(cluster.fs(), "dfs:///text");
        put(s3.fs(), &s3.uri("text"));
    };
    write("to be or not to be\n");

    // The one slot is taken: what is submitted now lists its input, and waits.
    let gate = cluster.path("gate");
    let args = ["--rows", "10", "--stuck", "--gate", &file_uri(&gate), "--output", "dfs:///held"];
    let holder = cluster.submit("gated", &args);
    holder.until("it to run", |status| status["stages"][0]["running"].as_u64() >= Some(1));
    let inputs = ["dfs:///text".to_owned(), file_uri(&text), s3.uri("text")];
    let jobs: Vec<_> = (inputs.iter().enumerate())
        .map(|(number, input)| {
            let submit = s3.with_keys(cluster.gristmill()).args(["job", "submit"]).arg(path_of("word_count"));
            let output = format!("dfs:///out-{number}");
            let submit = submit.args(["--", "--input", input, "--output", &output]);
            cluster.known_job(submit.run().succeeded().stdout.trim())
        })
        .collect();

    write("to be or to be not\n");
    fs::write(&gate, "").expect("a gate");
    holder.done();
    for (number, (job, scheme)) in jobs.iter().zip(["dfs", "file", "s3"]).enumerate() {
        let reason = job.failed();
        assert!(reason.contains("/text changed while the job ran: it was written anew"), "{reason}");
        assert!(reason.contains(&format!("{scheme}://")) || reason.contains(&inputs[number]), "{reason}");
        assert!(cluster.names_in(&format!("/out-{number}")).is_empty());
    }
}
