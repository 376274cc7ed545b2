//! UpdateFeatures (57), versions 0 to 2: asks for features to be finalized at other levels (`kafka-features`).
//!
//! - The levels are those that this build serves: only what is so already can be asked for; else INVALID_UPDATE_VERSION.
//! - All features are updated or none: in every version the response as a whole bears the error, and then it has no results.
//! - Versions 0 and 1 have a result for each feature where all of them succeeded.

use codec_kafka::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use core_rpc::Core;

use super::Context;
use super::api_versions::FEATURES;
use crate::Gateway;
use crate::errors::{ErrorCode, Refusal};
use crate::state::security::{Operation, Resource};

/// The first version without a result for each feature.
const NO_RESULTS_VERSION: i16 = 2;
/// The types of update that there are: upgrade, safe and unsafe downgrade.
const UPGRADE_TYPES: std::ops::RangeInclusive<i8> = 1..=3;

pub async fn handle<C: Core>(
    gateway: &Gateway<C>,
    context: &Context,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    if let Err(code) = gateway.check(context, Operation::Alter, Resource::Cluster) {
        return UpdateFeaturesResponse { error_code: code.code(), error_message: code.text(), ..Default::default() };
    }
    if let Some(refusal) = request.feature_updates.iter().find_map(|update| check(update).err()) {
        let message =
            format!("The update failed for all features since the following feature had an error: {}", refusal.message);
        let error_code = refusal.code.code();
        return UpdateFeaturesResponse { error_code, error_message: Some(message), ..Default::default() };
    }
    let results = match context.version {
        NO_RESULTS_VERSION.. => Vec::new(),
        _ => request.feature_updates.into_iter().map(|update| updated(update.feature)).collect(),
    };
    UpdateFeaturesResponse { results, ..Default::default() }
}

fn updated(feature: String) -> UpdatableFeatureResult {
    // Kafka gives its error a text even where there is none.
    UpdatableFeatureResult { feature, error_code: 0, error_message: Some("NONE".to_owned()) }
}

fn check(update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let (name, asked) = (&update.feature, update.max_version_level);
    let refused = |message: String| Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message));
    if !UPGRADE_TYPES.contains(&update.upgrade_type) {
        let message =
            format!("Invalid update version {asked} for feature {name}. There is no such type of update.");
        return refused(message);
    }
    match FEATURES.iter().find(|(feature, _)| feature == name) {
        Some((_, level)) if *level == asked => Ok(()),
        Some((_, level)) => refused(format!(
            "Invalid update version {asked} for feature {name}. Its version is {level}, which does not change."
        )),
        None => refused(format!("Invalid update version {asked} for feature {name}. There is no such feature here.")),
    }
}
