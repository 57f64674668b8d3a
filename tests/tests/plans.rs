//! Plans of other shapes than one map and one reduce.

use gristmill::{
    Dataset, Emit, JobError, LocalOptions, Plan, Report, Rows, Text, TextOutput, Tsv, TsvOutput, run_local,
    testing,
};
use gristmill_tests::{Home, Output};
use std::cell::Cell;
use std::rc::Rc;

fn run(options: &LocalOptions, job: impl FnOnce(&mut Plan)) -> Report {
    run_local(options, job).expect("the job is done")
}

#[test]
fn two_inputs_each_with_its_own_map_meet_in_one_reduce() {
    let home = Home::new();
    let old = home.write("old", "ann,1\nbob,2\n");
    let new = home.write("new", "3 ann\n4 cid\n");
    let (found, report) = testing::run_plan_of(|plan| {
        let old = plan.read(Text::at(&old)).map(|line, out: &mut Emit<String, u64>| {
            let (name, n) = line.split_once(',').expect("a comma");
            out.emit(name, n.parse().expect("a number"));
        });
        let new = plan.read(Text::at(&new)).map(|line, out: &mut Emit<String, u64>| {
            let (n, name) = line.split_once(' ').expect("a space");
            out.emit(name, n.parse().expect("a number"));
        });
        old.union(new).reduce(|name, ns, out: &mut Emit<String, u64>| out.emit(name, ns.sum()))
    });
    assert_eq!(found, [("ann", 4), ("bob", 2), ("cid", 4)].map(|(name, n)| (name.to_owned(), n)));
    assert_eq!(report.stages.len(), 3, "two maps and a reduce");
}

#[test]
fn a_task_has_a_state_from_its_first_record_to_its_last() {
    let (found, report) = testing::run_plan_of(|plan| {
        let begun = plan.counter("begun");
        let finished = plan.counter("finished");
        plan.read(Rows::new(1_000))
            .map_finish(
                || 0u64,
                move |sum, row, out: &mut Emit<u64, u64>| {
                    out.count(begun, u64::from(*sum == 0 && row % 2 == 0));
                    *sum += row;
                },
                move |sum, out| {
                    out.count(finished, 1);
                    out.emit(0, sum);
                },
            )
            .reduce(|key, sums, out: &mut Emit<u64, u64>| out.emit(key, sums.sum()))
    });
    assert_eq!(found, [(0, 999 * 500)]);
    let tasks = report.stages[0].tasks;
    assert!(tasks >= 2 && report.counter("finished") == tasks, "{tasks} tasks");
    assert_eq!(report.stages[0].records_collected, tasks, "a pair a task and no more");
}

#[test]
fn a_state_is_not_shared_between_tasks() {
    let found = testing::run(0..100u64, |rows: Dataset<u64>| {
        // Numbers its records: each task begins with 0.
        rows.map_init(
            || 0u64,
            |next, _: u64, out: &mut Emit<u64, u64>| {
                out.emit(*next, 1);
                *next += 1;
            },
        )
        .reduce(|number, tasks, out: &mut Emit<u64, u64>| out.emit(number, tasks.sum()))
    });
    // Of 100 records two tasks read 50 each.
    assert_eq!(found, (0..50).map(|number| (number, 2)).collect::<Vec<_>>());
}

#[test]
fn several_outputs_appear_together_or_not_at_all() {
    for fails in [false, true] {
        let home = Home::new();
        let done = run_local(&home.options(), |plan| {
            for (name, modulus) in [("evens", 2), ("thirds", 3)] {
                plan.read(Rows::new(10))
                    .map(move |row, out: &mut Emit<u64, ()>| {
                        assert!(!fails || modulus != 3 || row != 9, "the last record of the last output");
                        if row % modulus == 0 {
                            out.emit(row, ());
                        }
                    })
                    .write(TextOutput::at(home.uri(name)));
            }
        });
        if fails {
            let sentence = done.expect_err("it panics").to_string();
            assert!(sentence.contains("the last record of the last output"), "{sentence}");
            assert_eq!(home.names(""), ["scratch"]);
        } else {
            done.expect("the job is done");
            assert_eq!(Output::read(home.path("evens")).sorted_lines(), ["0", "2", "4", "6", "8"]);
            assert_eq!(Output::read(home.path("thirds")).sorted_lines(), ["0", "3", "6", "9"]);
        }
    }
}

#[test]
fn an_output_whose_place_is_taken_meanwhile_keeps_the_others_from_appearing() {
    let home = Home::new();
    let (first, second) = (home.uri("first"), home.uri("second"));
    let taken = home.path("second/precious");
    let done = run_local(&home.options(), |plan| {
        let rows = plan.read(Rows::new(10));
        rows.map(|n, out: &mut Emit<u64, u64>| out.emit(n, n)).write(TextOutput::at(first));
        // Somebody else is quicker: when the job began, both places were free.
        let rows = plan.read(Rows::new(1)).map(move |n, out: &mut Emit<u64, u64>| {
            std::fs::create_dir(taken.parent().expect("a directory")).expect("the place was free");
            std::fs::write(&taken, "mine").expect("a file");
            out.emit(n, n);
        });
        rows.write(TextOutput::at(second));
    });
    let sentence = done.expect_err("the second place is taken").to_string();
    assert!(sentence.contains(&home.uri("second")), "{sentence}");
    assert_eq!(home.names("second"), ["precious"], "what is there stays");
    assert_eq!(home.names(""), ["scratch", "second"], "nothing of a failed job is visible");
}

/// Writes ten numbers to each of two outputs below `home`; the job must fail, and leave nothing.
#[track_caller]
fn assert_overlap(home: &Home, first: &str, second: &str) {
    let before = home.names("");
    let (first, second) = (home.uri(first), home.uri(second));
    let done = run_local(&home.options(), |plan| {
        for output in [&first, &second] {
            let rows = plan.read(Rows::new(10)).map(|n, out: &mut Emit<u64, u64>| out.emit(n, n));
            rows.write(TextOutput::at(output));
        }
    });
    let sentence = done.err().unwrap_or_else(|| panic!("{first} and {second} were written")).to_string();
    assert!(sentence.contains(&first) && sentence.contains(&second), "it names both: {sentence}");
    assert!(sentence.contains("overlap"), "{sentence}");
    assert_eq!(home.names(""), before);
}

#[test]
fn outputs_that_overlap_are_refused() {
    let home = Home::new();
    for (first, second) in
        [("out", "out"), ("out", "out/below"), ("a/out/below", "a/out"), ("out", "./out/below")]
    {
        assert_overlap(&home, first, second);
    }
}

#[test]
fn outputs_that_overlap_under_another_name_are_refused() {
    let home = Home::new();
    assert_overlap(&home, "out", "scratch/../out/below");
}

#[test]
fn outputs_that_overlap_through_a_link_are_refused() {
    let home = Home::new();
    std::os::unix::fs::symlink(home.path("scratch"), home.path("link")).expect("a link");
    assert_overlap(&home, "scratch/out", "link/out/below");
}

#[test]
fn map_only_plans_write_parts_of_their_own_name() {
    let home = Home::new();
    let input = home.write("in", "b\na\nb\n");
    run(&home.options(), |plan| {
        let lines = plan.read(Text::at(&input));
        lines
            .map(|line, out: &mut Emit<String, u64>| out.emit(line, 1))
            .write(TextOutput::at(home.uri("out")));
    });
    let output = Output::read(home.path("out"));
    assert_eq!(output.parts.keys().collect::<Vec<_>>(), ["part-m-00000", "part-m-00001"]);
    // Without a reduce nothing is sorted: each task's records are in their order.
    assert_eq!(output.parts.into_values().collect::<Vec<_>>().concat(), b"b\t1\na\t1\nb\t1\n");
}

#[test]
fn extra_outputs_get_what_is_written_to_them() {
    let home = Home::new();
    run(&home.options(), |plan| {
        let odd = plan.extra_output(TsvOutput::at(home.uri("odd")));
        let none = plan.extra_output::<u64, u64>(TextOutput::at(home.uri("none")));
        plan.read(Rows::new(100))
            .map(move |row, out: &mut Emit<u64, u64>| {
                if row % 2 == 1 {
                    out.emit_to::<u64, String>(&odd, row, "tab\there");
                }
                if row > 1_000 {
                    out.emit_to(&none, row, row);
                }
                out.emit(row % 10, row);
            })
            .reduce(|digit, rows, out: &mut Emit<u64, u64>| out.emit(digit, rows.count()))
            .write(TextOutput::at(home.uri("out")));
    });
    let odd: Vec<String> =
        (0..100).filter(|row| row % 2 == 1).map(|row| format!("{row}\ttab\\there")).collect();
    let mut found = Output::read(home.path("odd")).sorted_lines();
    found.sort_by_key(|line| line.split('\t').next().and_then(|row| row.parse::<u64>().ok()));
    assert_eq!(found, odd);
    assert_eq!(Output::read(home.path("none")).parts.len(), 0, "nothing was written to it");
    assert_eq!(Output::read(home.path("out")).sorted_lines().len(), 10);
    // What TSV escapes it reads back.
    let (read, _) = testing::run_plan_of(|plan| {
        let pairs = plan.read(Tsv::at(home.uri("odd")));
        pairs.map(|(row, text), out: &mut Emit<u64, String>| out.emit(row.parse().expect("a number"), text))
    });
    assert_eq!(
        read,
        (0..100).filter(|row| row % 2 == 1).map(|row| (row, "tab\there".into())).collect::<Vec<_>>()
    );
}

#[test]
fn counters_are_sums_over_all_tasks_and_stages() {
    let (_, report) = testing::run_plan_of(|plan| {
        let rows = plan.read(Rows::new(5_000));
        let (mapped, again) = (rows.counter("mapped"), rows.counter("mapped"));
        let groups = plan.counter("groups");
        rows.map(move |row, out: &mut Emit<u64, u64>| {
            out.count(if row % 2 == 0 { mapped } else { again }, 1);
            out.emit(row % 37, 1);
        })
        .reduce(move |key, ones, out: &mut Emit<u64, u64>| {
            out.count(groups, 1);
            out.emit(key, ones.sum());
        })
    });
    assert_eq!((report.counter("mapped"), report.counter("groups")), (5_000, 37));
    assert_eq!(report.counters.len(), 2, "the same name is the same counter");
}

#[test]
fn a_broadcast_is_made_once_and_seen_by_all() {
    let made = Rc::new(Cell::new(0));
    let (found, _) = testing::run_plan_of(|plan| {
        let names = plan.broadcast(|| {
            made.set(made.get() + 1);
            Ok::<_, JobError>(vec!["zero".to_owned(), "one".to_owned(), "two".to_owned()])
        });
        let names = names.expect("it is made");
        plan.read(Rows::new(999))
            .map(move |row, out: &mut Emit<String, u64>| out.emit(&names[row as usize % 3], 1))
            .reduce(|name, ones, out: &mut Emit<String, u64>| out.emit(name, ones.sum()))
    });
    assert_eq!(made.get(), 1);
    assert_eq!(found, [("one", 333), ("two", 333), ("zero", 333)].map(|(name, n)| (name.to_owned(), n)));
}

#[test]
fn a_plan_says_how_many_reducers_whatever_the_options_say() {
    let home = Home::new();
    let mut options = home.options();
    options.reducers = Some(9);
    run(&options, |plan| {
        let rows =
            plan.read(Rows::new(10)).map(|row, out: &mut Emit<u64, u64>| out.emit(row, row)).reducers(3);
        let thirds = rows.reduce(|row, _, out: &mut Emit<u64, u64>| out.emit(row, row));
        thirds
            .reduce(|row, _, out: &mut Emit<u64, u64>| out.emit(row, row))
            .write(TextOutput::at(home.uri("out")));
    });
    let output = Output::read(home.path("out"));
    assert_eq!(output.manifest["stages"][1]["tasks"], 3);
    assert_eq!((output.manifest["stages"][2]["tasks"].as_u64(), output.parts.len()), (Some(9), 9));
}

#[test]
fn a_plan_that_does_nothing_is_a_sentence() {
    let home = Home::new();
    let nothing = run_local(&home.options(), |_| {}).expect_err("there is nothing to do").to_string();
    assert!(nothing.contains("does nothing"), "{nothing}");
    let unused = run_local(&home.options(), |plan| {
        let rows = plan.read(Rows::new(1)).map(|row, out: &mut Emit<u64, u64>| out.emit(row, row));
        drop(rows.reduce(|row, _, out: &mut Emit<u64, u64>| out.emit(row, row)));
    });
    let unused = unused.expect_err("a reduce is not used").to_string();
    assert!(unused.contains("end it with write or discard"), "{unused}");
}

#[test]
fn a_discarded_result_still_counts() {
    let home = Home::new();
    let report = run(&home.options(), |plan| {
        let seen = plan.counter("seen");
        plan.read(Rows::new(77)).map(move |_, out: &mut Emit<(), ()>| out.count(seen, 1)).discard();
    });
    assert_eq!(report.counter("seen"), 77);
    assert_eq!(home.names(""), ["scratch"]);
}
