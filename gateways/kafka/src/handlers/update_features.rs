//! UpdateFeatures (57), versions 0 to 2: asks for features to be finalized at other levels (`kafka-features`).
//!
//! The levels are those that this build serves: only what is so already can be asked for; else INVALID_UPDATE_VERSION.

use codec_kafka::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use core_rpc::Core;

use super::Context;
use super::api_versions::FEATURES;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Operation, Resource};

/// The first version without a result for each feature: the whole request succeeds or fails.
const ONE_RESULT_VERSION: i16 = 2;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    if let Err(code) = gateway.check(context, Operation::Alter, Resource::Cluster) {
        return UpdateFeaturesResponse { error_code: code.code(), error_message: code.text(), ..Default::default() };
    }
    let checked: Vec<(String, Option<Refusal>)> =
        request.feature_updates.into_iter().map(|update| (update.feature.clone(), check(&update).err())).collect();
    if context.version >= ONE_RESULT_VERSION {
        let first = checked.into_iter().find_map(|(_, refusal)| refusal);
        return UpdateFeaturesResponse {
            error_code: first.as_ref().map_or(0, |refusal| refusal.code.code()),
            error_message: first.map(|refusal| refusal.message),
            ..Default::default()
        };
    }
    let result = |(feature, refusal): (String, Option<Refusal>)| UpdatableFeatureResult {
        feature,
        error_code: refusal.as_ref().map_or(0, |refusal| refusal.code.code()),
        error_message: refusal.map(|refusal| refusal.message),
    };
    UpdateFeaturesResponse { results: checked.into_iter().map(result).collect(), ..Default::default() }
}

fn check(update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let (name, asked) = (&update.feature, update.max_version_level);
    let refused = |message: String| Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message));
    match FEATURES.iter().find(|(feature, _)| feature == name) {
        Some((_, level)) if *level == asked => Ok(()),
        Some((_, level)) => refused(format!(
            "Invalid update version {asked} for feature {name}. Its version is {level}, which does not change."
        )),
        None => refused(format!("Invalid update version {asked} for feature {name}. There is no such feature here.")),
    }
}
