//! Shaders are compiled beside the weights: all that first requests of a model take, of any family. The counts are
//! the process's, so this test is alone in its file.

use fireside_model::path::OpenModel;
use fireside_model::step::{LogitAdjustment, RowSelection};
use fireside_model::{Counters, KvDtype, Profile};
use fireside_tests::{Runner, checkpoints, gpu, skip};

/// Tokens of prompts: what fills workgroups, and every rest.
const PROMPTS: [usize; 8] = [1, 2, 3, 4, 11, 13, 16, 33];

#[test]
fn first_requests_of_every_family_compile_nothing() {
    let test = "first_requests_of_every_family_compile_nothing";
    let Some(device) = gpu() else {
        return skip(test, "no gpu adapter: install mesa-vulkan-drivers");
    };
    let own = device.profile();
    let gpus = Profile::ALL.into_iter().find(|profile| !profile.software);
    for (index, folder) in checkpoints().iter().enumerate() {
        let name = folder.display();
        // A kernel of the model before must not stand in for one that was not listed.
        let device = gpu().unwrap();
        let profile = if index % 4 == 3 {
            gpus.unwrap_or(own)
        } else {
            own
        };
        let device = device.with_profile(profile);
        let open = OpenModel::open(folder).unwrap();
        let compiling = open.compile(&device, KvDtype::F16, true).unwrap();
        let loaded = open.load(device.clone(), &mut |_, _| {}).unwrap();
        pollster::block_on(compiling.done()).unwrap();

        let before = Counters::now();
        let config = loaded.model.config();
        let sampled = RowSelection {
            noise: Some((3, 1)),
            candidates: 16,
            adjustments: vec![LogitAdjustment {
                token: 1,
                repetition: 1.1,
                add: 0.0,
            }],
            ..RowSelection::default()
        };
        let prompts = PROMPTS.iter().filter(|tokens| **tokens < config.context);
        for (tokens, selection) in prompts.zip([RowSelection::default(), sampled].iter().cycle()) {
            let prompt = vec![1; *tokens];
            let mut runner = Runner::new(&loaded.model, tokens + 1, KvDtype::F16).unwrap();
            runner.run(&prompt, false, selection).unwrap();
            runner.run(&[2], false, selection).unwrap();
        }
        let cost = Counters::now().since(before);
        assert!(cost.dispatches > 0);
        assert_eq!(cost.pipelines, 0, "{name}, {profile:?}");
        device.destroy();
    }
}
