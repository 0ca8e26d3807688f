//! Objects whose controllers make or change other objects, possibly in every namespace: deliverers of charts, kustomizations and
//! repositories, and policy engines that generate objects or label them. What they make may be missing from an input.

use super::foreign::is_in_group;
use super::tree::{NodeId, Tree, Value};

/// Kinds of one project.
struct Generator {
    /// The API group, or what it ends with after a dot.
    group: &'static str,
    kinds: &'static [&'static str],
    /// The name of the project; empty where the kinds are known by themselves.
    project: &'static str,
    when: When,
}

/// Which objects of the kinds make or change something that decides about traffic.
#[derive(Clone, Copy)]
enum When {
    Always,
    /// Those in which a field of `spec` contains a word, as a key or in a value.
    Mentions(&'static str, &'static str),
    /// Policies of Kyverno with a rule that generates objects, or that sets labels.
    Kyverno,
}

const fn always(group: &'static str, kinds: &'static [&'static str], project: &'static str) -> Generator {
    Generator { group, kinds, project, when: When::Always }
}

const fn with_word(
    group: &'static str,
    kinds: &'static [&'static str],
    project: &'static str,
    (field, word): (&'static str, &'static str),
) -> Generator {
    Generator { group, kinds, project, when: When::Mentions(field, word) }
}

static GENERATORS: &[Generator] = &[
    // Deliverers of what is written elsewhere.
    always("toolkit.fluxcd.io", &["HelmRelease", "Kustomization"], "Flux"),
    always("helm.fluxcd.io", &["HelmRelease"], "Flux"),
    always("fluxcd.controlplane.io", &["ResourceSet"], "Flux"),
    always("argoproj.io", &["Application", "ApplicationSet"], "Argo CD"),
    always("helm.cattle.io", &["HelmChart", "HelmChartConfig"], ""),
    always("fleet.cattle.io", &["Bundle", "GitRepo", "HelmOp"], "Fleet"),
    always("core.oam.dev", &["Application", "Component"], "OAM"),
    always("kappctrl.k14s.io", &["App"], "Carvel"),
    always("packaging.carvel.dev", &["PackageInstall"], "Carvel"),
    always("gitops.kluctl.io", &["KluctlDeployment"], ""),
    always("configsync.gke.io", &["RepoSync", "RootSync"], "Config Sync"),
    always("pulumi.com", &["Stack"], "Pulumi"),
    // Operators that are installed by name.
    always("operators.coreos.com", &["ClusterServiceVersion", "Subscription"], "Operator Lifecycle Manager"),
    always("olm.operatorframework.io", &["ClusterExtension"], "Operator Lifecycle Manager"),
    // Objects in objects, mostly of several clusters.
    always("work.open-cluster-management.io", &["ManifestWork", "ManifestWorkReplicaSet"], "Open Cluster Management"),
    always("policy.open-cluster-management.io", &["ConfigurationPolicy", "OperatorPolicy", "Policy"], "Open Cluster Management"),
    always("apps.open-cluster-management.io", &["Subscription"], "Open Cluster Management"),
    always("karmada.io", &["ClusterOverridePolicy", "OverridePolicy", "Work"], "Karmada"),
    always("config.projectsveltos.io", &["ClusterProfile", "Profile"], "Sveltos"),
    always("addons.cluster.x-k8s.io", &["ClusterResourceSet", "HelmChartProxy", "HelmReleaseProxy"], "Cluster API"),
    always("crossplane.io", &["Composition", "Object", "Release"], "Crossplane"),
    always("pkg.crossplane.io", &["Configuration", "Function", "Provider"], "Crossplane"),
    always("metacontroller.k8s.io", &["CompositeController", "DecoratorController"], "Metacontroller"),
    always("kro.run", &["ResourceGraphDefinition"], "kro"),
    // Policies and namespaces of tenants.
    always("capsule.clastix.io", &["GlobalTenantResource", "TenantResource"], "Capsule"),
    with_word("capsule.clastix.io", &["Tenant"], "Capsule", ("networkPolicies", "")),
    always("hnc.x-k8s.io", &["SubnamespaceAnchor"], "Hierarchical Namespace Controller"),
    with_word("hnc.x-k8s.io", &["HNCConfiguration"], "Hierarchical Namespace Controller", ("resources", "networkpolicies")),
    always("redhatcop.redhat.io", &["GroupConfig", "NamespaceConfig", "UserConfig"], "Namespace Configuration Operator"),
    always("k8s.otterize.com", &["ClientIntents"], "Otterize"),
    // Policy engines.
    Generator { group: "kyverno.io", kinds: &["ClusterPolicy", "Policy"], project: "Kyverno", when: When::Kyverno },
    always("policies.kyverno.io", &["GeneratingPolicy", "NamespacedGeneratingPolicy"], "Kyverno"),
    with_word("policies.kyverno.io", &["MutatingPolicy", "NamespacedMutatingPolicy"], "Kyverno", ("mutations", "labels")),
    with_word("mutations.gatekeeper.sh", &["AssignMetadata"], "Gatekeeper", ("location", "labels")),
    with_word("admissionregistration.k8s.io", &["MutatingAdmissionPolicy"], "", ("mutations", "labels")),
];

/// Kinds that decide nothing about traffic, and that Kyverno often generates.
const HARMLESS: [&str; 13] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "HorizontalPodAutoscaler",
    "LimitRange",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
    "VerticalPodAutoscaler",
];

fn generators<'k>(api_version: &'k str, kind: &'k str) -> impl Iterator<Item = &'static Generator> + 'k {
    let group = super::kinds::group_of(api_version);
    GENERATORS.iter().filter(move |generator| generator.kinds.contains(&kind) && is_in_group(group, generator.group))
}

/// The name of the project of a kind; `None` for a kind that makes no objects.
pub(super) fn project(api_version: &str, kind: &str) -> Option<&'static str> {
    generators(api_version, kind).next().map(|generator| generator.project)
}

/// Whether the controller of an object makes or changes objects that decide about traffic.
pub(super) fn generates(tree: &Tree<'_>, object: NodeId, api_version: &str, kind: &str) -> bool {
    let spec = tree.field(object, "spec");
    generators(api_version, kind).any(|generator| match generator.when {
        When::Always => true,
        When::Mentions(field, word) => {
            let field = spec.and_then(|spec| tree.field(spec, field));
            field.is_some_and(|field| mentions(tree, [field], word))
        }
        When::Kyverno => {
            let rules = spec.and_then(|spec| tree.field(spec, "rules")).map(|rules| items(tree, rules)).unwrap_or_default();
            let mutations = rules.iter().filter_map(|rule| tree.field(*rule, "mutate"));
            mentions(tree, mutations, "labels") || rules.iter().any(|rule| is_generating_rule(tree, *rule))
        }
    })
}

fn items<'t>(tree: &'t Tree<'_>, node: NodeId) -> &'t [NodeId] {
    match tree.value(node) {
        Value::Sequence(items) => items,
        _ => &[],
    }
}

/// Whether a rule of Kyverno generates an object that may decide.
fn is_generating_rule(tree: &Tree<'_>, rule: NodeId) -> bool {
    let Some(generate) = tree.field(rule, "generate") else { return false };
    let each = tree.field(generate, "foreach").map(|each| items(tree, each)).unwrap_or_default();
    let mut kinds: Vec<String> =
        [generate].iter().chain(each).filter_map(|node| tree.text(*node, "kind")).map(str::to_owned).collect();
    if let Some(listed) = tree.field(generate, "cloneList").and_then(|list| tree.field(list, "kinds")) {
        // `v1/Secret`.
        let names = items(tree, listed).iter().filter_map(|kind| tree.key(*kind));
        kinds.extend(names.map(|name| name.rsplit('/').next().unwrap_or_default().to_owned()));
    }
    kinds.is_empty() || kinds.iter().any(|kind| !HARMLESS.contains(&kind.as_str()))
}

/// Whether a key or a value below some nodes contains a word, in whatever case.
fn mentions(tree: &Tree<'_>, nodes: impl IntoIterator<Item = NodeId>, word: &str) -> bool {
    let has = |node: NodeId| tree.key(node).is_some_and(|text| text.to_lowercase().contains(word));
    word.is_empty() || tree.descendants(nodes).any(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::documents::Documents;

    fn is_generating(api_version: &str, kind: &str, spec: &str) -> bool {
        let text = format!("spec: {spec}");
        let tree = Documents::new(&text).next().unwrap().unwrap();
        generates(&tree, tree.root(), api_version, kind)
    }

    #[test]
    fn what_makes_objects_is_known_by_group_and_kind() {
        assert!(is_generating("argoproj.io/v1alpha1", "Application", "{}"));
        assert!(is_generating("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "{}"));
        assert!(!is_generating("kustomize.config.k8s.io/v1beta1", "Kustomization", "{}"));
        assert!(!is_generating("argoproj.io/v1alpha1", "AppProject", "{}"));
        assert!(is_generating("redhatcop.redhat.io/v1alpha1", "NamespaceConfig", "{templates: []}"));
        assert!(is_generating("k8s.otterize.com/v2beta1", "ClientIntents", "{workload: {name: web}}"));
        assert!(is_generating("operators.coreos.com/v1alpha1", "ClusterServiceVersion", "{}"));
        assert!(is_generating("pkg.crossplane.io/v1", "Provider", "{}"));
        assert!(!is_generating("notification.toolkit.fluxcd.io/v1", "Provider", "{}"));
        assert_eq!(project("helm.toolkit.fluxcd.io/v2", "HelmRelease"), Some("Flux"));
    }

    #[test]
    fn rules_of_kyverno_are_those_that_generate_or_label() {
        let rule = |rule: &str| is_generating("kyverno.io/v1", "ClusterPolicy", &format!("{{rules: [{{name: r, {rule}}}]}}"));
        assert!(rule("generate: {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, name: deny}"));
        assert!(rule("generate: {cloneList: {namespace: x, kinds: [v1/Secret, networking.k8s.io/v1/NetworkPolicy]}}"));
        assert!(rule("generate: {foreach: [{kind: NetworkPolicy}]}"));
        assert!(rule("mutate: {patchStrategicMerge: {metadata: {labels: {+(team): a}}}}"));
        assert!(rule("mutate: {patchesJson6902: '- {op: add, path: /metadata/labels/team, value: a}'}"));
        assert!(!rule("generate: {kind: ConfigMap, name: ca}"));
        assert!(!rule("generate: {cloneList: {namespace: x, kinds: [v1/Secret]}}"));
        assert!(!rule("mutate: {patchStrategicMerge: {spec: {hostUsers: false}}}"));
        assert!(!rule("validate: {message: labels, pattern: {metadata: {labels: {team: '?*'}}}}"));
    }

    #[test]
    fn aliases_are_followed_once() {
        // Followed each time, these would be 20,000 × 20,000 nodes.
        let list = format!("&a [{}*a]", "x, ".repeat(20_000));
        assert!(!is_generating("kyverno.io/v1", "ClusterPolicy", &format!("{{rules: [{{mutate: {list}}}]}}")));
        let lists = format!("{{rules: [{{mutate: {list}}}, {}]}}", "{mutate: [*a]}, ".repeat(20_000));
        assert!(!is_generating("kyverno.io/v1", "ClusterPolicy", &lists));
    }

    #[test]
    fn a_tenant_makes_policies_if_it_has_some() {
        let tenant = |spec: &str| is_generating("capsule.clastix.io/v1beta2", "Tenant", spec);
        assert!(tenant("{networkPolicies: {items: [{podSelector: {}}]}}") && !tenant("{owners: []}"));
    }
}
