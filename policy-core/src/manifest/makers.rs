//! Objects whose pods a controller makes in a way that is not known here: operators, build systems, deliverers of charts (`generators`).
//!
//! They are remembered by name. A question about one of them is answered with what it is, and every answer that its pods could
//! change names it.

use super::foreign::is_in_group;
use super::generators;
use super::tree::{NodeId, Tree, Value};
use crate::model::{Origin, WorkloadKey};

/// An object whose pods a controller makes in a way that is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMaker {
    /// Its apiVersion.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty where an object that can be in none has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is written.
    pub origin: Origin,
    /// What its controller makes.
    pub makes: Makes,
    /// The workloads of the input that its controller has made, sorted; none when its pods are not in the input.
    pub workloads: Vec<WorkloadKey>,
}

/// What a controller makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Makes {
    /// Pods, in the namespace of its object.
    Pods,
    /// Objects of any kind in any namespace, or labels of them.
    Objects,
    /// More pods of a StatefulSet, up to a number that is not known.
    Replicas,
    /// Labels of some pods of its own, which are a workload of the input.
    Labels,
}

impl PodMaker {
    /// Its namespace, if it has one, and its name.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) }
    }

    /// Its kind with the name of the project, where the kind alone misleads: `Knative Service`.
    #[must_use]
    pub fn title(&self) -> String {
        let of_family = || family(&self.api_version, &self.kind).map(|family| family.project);
        match generators::project(&self.api_version, &self.kind).or_else(of_family).unwrap_or_default() {
            "" => self.kind.clone(),
            project => format!("{project} {}", self.kind),
        }
    }
}

/// Kinds of one project.
struct Family {
    /// The API group, or what it ends with after a dot.
    group: &'static str,
    kinds: &'static [&'static str],
    /// The name of the project; empty where the kinds are known by themselves.
    project: &'static str,
    /// The label of pods whose value is the name of the object, where owner references do not lead to it.
    label: &'static str,
}

const fn family_of(group: &'static str, kinds: &'static [&'static str]) -> Family {
    Family { group, kinds, project: "", label: "" }
}

/// Kinds whose pods have other labels, other names or another template than the object has.
///
/// A Knative Service has `spec.template.spec.containers` too. Its pods get the labels of its revision, whose name is not known
/// before, and a second container with ports of its own, so its template does not stand for them.
static FAMILIES: &[Family] = &[
    // Requests.
    Family { project: "Knative", label: "serving.knative.dev/service", ..family_of("serving.knative.dev", &["Service"]) },
    Family {
        project: "Knative",
        label: "serving.knative.dev/configuration",
        ..family_of("serving.knative.dev", &["Configuration"])
    },
    Family { project: "Knative", label: "serving.knative.dev/revision", ..family_of("serving.knative.dev", &["Revision"]) },
    Family {
        project: "Knative",
        ..family_of("sources.knative.dev", &["ApiServerSource", "ContainerSource", "KafkaSource", "PingSource", "SinkBinding"])
    },
    Family { label: "gateway.networking.k8s.io/gateway-name", ..family_of("gateway.networking.k8s.io", &["Gateway"]) },
    family_of("serving.kserve.io", &["InferenceService", "InferenceGraph", "LLMInferenceService"]),
    family_of("machinelearning.seldon.io", &["SeldonDeployment"]),
    Family { project: "Knative", ..family_of("eventing.knative.dev", &["Broker"]) },
    Family { project: "Knative", ..family_of("operator.knative.dev", &["KnativeEventing", "KnativeServing"]) },
    Family { project: "OpenFaaS", ..family_of("openfaas.com", &["Function"]) },
    Family { project: "Kyma", ..family_of("serverless.kyma-project.io", &["Function"]) },
    family_of("camel.apache.org", &["Build", "Integration", "KameletBinding", "Pipe"]),
    // Metrics, logs and traces.
    family_of("monitoring.coreos.com", &["Alertmanager", "Prometheus", "PrometheusAgent", "ThanosRuler"]),
    family_of(
        "monitoring.rhobs",
        &["Alertmanager", "MonitoringStack", "Prometheus", "PrometheusAgent", "ThanosQuerier", "ThanosRuler"],
    ),
    family_of(
        "victoriametrics.com",
        &[
            "VLAgent",
            "VLCluster",
            "VLSingle",
            "VLogs",
            "VMAgent",
            "VMAlert",
            "VMAlertmanager",
            "VMAnomaly",
            "VMAuth",
            "VMCluster",
            "VMSingle",
            "VTCluster",
            "VTSingle",
        ],
    ),
    family_of("grafana.com", &["GrafanaAgent", "Loki", "LokiStack", "TempoMonolithic", "TempoStack", "Alloy"]),
    family_of("integreatly.org", &["Grafana"]),
    family_of("opentelemetry.io", &["OpAMPBridge", "OpenTelemetryCollector", "TargetAllocator"]),
    family_of("jaegertracing.io", &["Jaeger"]),
    family_of("logging.banzaicloud.io", &["FluentbitAgent", "Logging", "SyslogNGConfig"]),
    family_of("openshift.io", &["ClusterLogForwarder", "ClusterLogging", "Console", "IngressController"]),
    // Streams and queues.
    Family {
        project: "Strimzi",
        label: "strimzi.io/cluster",
        ..family_of(
            "strimzi.io",
            &["Kafka", "KafkaBridge", "KafkaConnect", "KafkaMirrorMaker", "KafkaMirrorMaker2", "KafkaNodePool", "StrimziPodSet"],
        )
    },
    family_of("kafka.banzaicloud.io", &["CruiseControlOperation", "KafkaCluster"]),
    family_of(
        "platform.confluent.io",
        &["Connect", "ControlCenter", "Kafka", "KafkaRestProxy", "KRaftController", "KsqlDB", "SchemaRegistry", "Zookeeper"],
    ),
    Family { project: "Redpanda", ..family_of("redpanda.com", &["Cluster", "Console", "Redpanda"]) },
    family_of("rabbitmq.com", &["RabbitmqCluster"]),
    family_of("nats.io", &["NatsCluster", "StreamingCluster"]),
    family_of("pravega.io", &["BookkeeperCluster", "PravegaCluster", "ZookeeperCluster"]),
    family_of("flink.apache.org", &["FlinkDeployment", "FlinkSessionJob"]),
    // Databases and storage.
    Family {
        label: "elasticsearch.k8s.elastic.co/cluster-name",
        ..family_of("elasticsearch.k8s.elastic.co", &["Elasticsearch"])
    },
    family_of(
        "k8s.elastic.co",
        &["Agent", "ApmServer", "Beat", "ElasticMapsServer", "EnterpriseSearch", "Kibana", "Logstash", "StackConfigPolicy"],
    ),
    family_of("opensearch.opster.io", &["OpenSearchCluster"]),
    Family { label: "cluster-name", ..family_of("acid.zalan.do", &["postgresql"]) },
    Family {
        label: "postgres-operator.crunchydata.com/cluster",
        ..family_of("postgres-operator.crunchydata.com", &["PostgresCluster"])
    },
    family_of("postgres-operator.crunchydata.com", &["PGAdmin", "PGUpgrade"]),
    Family { project: "CloudNativePG", label: "cnpg.io/cluster", ..family_of("postgresql.cnpg.io", &["Cluster"]) },
    Family { project: "CloudNativePG", label: "cnpg.io/poolerName", ..family_of("postgresql.cnpg.io", &["Pooler"]) },
    family_of("stackgres.io", &["SGCluster", "SGDistributedLogs", "SGShardedCluster"]),
    family_of("percona.com", &["PerconaPGCluster", "PerconaServerMongoDB", "PerconaServerMySQL", "PerconaXtraDBCluster"]),
    family_of("mysql.oracle.com", &["InnoDBCluster"]),
    family_of("mysql.presslabs.org", &["MysqlCluster"]),
    family_of("mariadb.com", &["MariaDB", "MaxScale"]),
    family_of("mariadb.mmontes.io", &["MariaDB", "MaxScale"]),
    family_of("mongodb.com", &["MongoDB", "MongoDBCommunity", "MongoDBMultiCluster", "MongoDBOpsManager", "MongoDBSearch"]),
    family_of("spotahome.com", &["RedisFailover"]),
    family_of("opstreelabs.in", &["Redis", "RedisCluster", "RedisReplication", "RedisSentinel"]),
    family_of("redislabs.com", &["RedisEnterpriseCluster"]),
    family_of("dragonflydb.io", &["Dragonfly"]),
    family_of("hazelcast.com", &["Hazelcast", "ManagementCenter"]),
    family_of("infinispan.org", &["Infinispan"]),
    family_of("cassandra.datastax.com", &["CassandraDatacenter"]),
    family_of("k8ssandra.io", &["K8ssandraCluster", "Reaper", "Stargate"]),
    family_of("cassandraoperator.instaclustr.com", &["CassandraDataCenter"]),
    family_of("scylladb.com", &["ScyllaCluster", "ScyllaDBCluster", "ScyllaDBDatacenter", "ScyllaDBMonitoring"]),
    family_of("crdb.cockroachlabs.com", &["CrdbCluster", "CrdbNode"]),
    family_of("yugabyte.com", &["YBCluster", "YBUniverse"]),
    family_of("pingcap.com", &["DMCluster", "TidbCluster", "TidbDashboard", "TidbMonitor", "TidbNGMonitoring"]),
    family_of("altinity.com", &["ClickHouseInstallation", "ClickHouseKeeperInstallation"]),
    family_of("arangodb.com", &["ArangoDeployment"]),
    family_of("couchbase.com", &["CouchbaseCluster"]),
    family_of("neo4j.com", &["Neo4jCluster"]),
    family_of("influxdata.com", &["Influxdb"]),
    family_of("solr.apache.org", &["SolrCloud", "SolrPrometheusExporter"]),
    family_of("emqx.io", &["EMQX", "EmqxBroker", "EmqxEnterprise"]),
    family_of("milvus.io", &["Milvus", "MilvusCluster"]),
    Family { label: "app.kubernetes.io/instance", project: "KubeDB", ..family_of("kubedb.com", KUBEDB) },
    family_of("vault.banzaicloud.com", &["Vault"]),
    family_of("etcd.database.coreos.com", &["EtcdCluster"]),
    family_of("etcd.aenix.io", &["EtcdCluster"]),
    family_of("druid.apache.org", &["Druid"]),
    family_of("trino.stackable.tech", &["TrinoCluster"]),
    Family {
        project: "Stackable",
        ..family_of(
            "stackable.tech",
            &[
                "AirflowCluster",
                "DruidCluster",
                "HbaseCluster",
                "HdfsCluster",
                "HiveCluster",
                "KafkaCluster",
                "NifiCluster",
                "OpaCluster",
                "OpenSearchCluster",
                "SparkApplication",
                "SparkHistoryServer",
                "SupersetCluster",
                "ZookeeperCluster",
            ],
        )
    },
    Family { project: "MinIO", label: "v1.min.io/tenant", ..family_of("minio.min.io", &["Tenant"]) },
    family_of(
        "ceph.rook.io",
        &["CephCluster", "CephFilesystem", "CephFilesystemMirror", "CephNFS", "CephObjectStore", "CephRBDMirror"],
    ),
    // Batch and builds.
    Family { project: "Tekton", label: "tekton.dev/taskRun", ..family_of("tekton.dev", &["TaskRun"]) },
    Family { project: "Tekton", label: "tekton.dev/pipelineRun", ..family_of("tekton.dev", &["PipelineRun"]) },
    Family { project: "Tekton", ..family_of("tekton.dev", &["CustomRun", "EventListener"]) },
    Family { project: "Argo", label: "workflows.argoproj.io/workflow", ..family_of("argoproj.io", &["Workflow"]) },
    Family {
        project: "Argo",
        ..family_of("argoproj.io", &["AnalysisRun", "ArgoCD", "CronWorkflow", "EventBus", "EventSource", "Experiment", "Sensor"])
    },
    Family { label: "sparkoperator.k8s.io/app-name", ..family_of("sparkoperator.k8s.io", &["SparkApplication"]) },
    family_of("sparkoperator.k8s.io", &["ScheduledSparkApplication", "SparkConnect"]),
    family_of("spark.apache.org", &["SparkApplication", "SparkCluster"]),
    Family { label: "ray.io/cluster", ..family_of("ray.io", &["RayCluster"]) },
    family_of("ray.io", &["RayCronJob", "RayJob", "RayService"]),
    family_of(
        "kubeflow.org",
        &["JAXJob", "MPIJob", "MXJob", "Notebook", "PaddleJob", "PyTorchJob", "TFJob", "TrainJob", "XGBoostJob"],
    ),
    family_of("keda.sh", &["ScaledJob"]),
    family_of("jobset.x-k8s.io", &["JobSet"]),
    family_of("leaderworkerset.x-k8s.io", &["LeaderWorkerSet"]),
    Family { project: "Volcano", label: "volcano.sh/job-name", ..family_of("batch.volcano.sh", &["CronJob", "Job", "JobFlow"]) },
    family_of("workload.codeflare.dev", &["AppWrapper"]),
    Family { project: "OpenShift", ..family_of("build.openshift.io", &["Build", "BuildConfig"]) },
    family_of("actions.github.com", &["AutoscalingRunnerSet", "EphemeralRunner", "EphemeralRunnerSet"]),
    family_of("summerwind.dev", &["Runner", "RunnerDeployment", "RunnerReplicaSet", "RunnerSet"]),
    family_of("jenkins.io", &["Jenkins"]),
    family_of("workspace.devfile.io", &["DevWorkspace"]),
    // Machines and games.
    Family {
        project: "KubeVirt",
        label: "vm.kubevirt.io/name",
        ..family_of("kubevirt.io", &["VirtualMachine", "VirtualMachineInstance"])
    },
    Family {
        project: "KubeVirt",
        ..family_of("kubevirt.io", &["CDI", "KubeVirt", "VirtualMachineInstanceReplicaSet", "VirtualMachinePool"])
    },
    family_of("agones.dev", &["Fleet", "GameServerSet"]),
    // Applications.
    family_of("keycloak.org", &["Keycloak"]),
    family_of("wildfly.org", &["WildFlyServer"]),
    family_of("openliberty.io", &["OpenLibertyApplication"]),
    family_of("liberty.websphere.ibm.com", &["WebSphereLibertyApplication"]),
    family_of("install.istio.io", &["IstioOperator"]),
    family_of("sailoperator.io", &["Istio", "IstioCNI", "IstioRevision", "ZTunnel"]),
    family_of("operator.tigera.io", &["APIServer", "Installation"]),
];

/// Databases of KubeDB.
const KUBEDB: &[&str] = &[
    "Cassandra",
    "ClickHouse",
    "Druid",
    "Elasticsearch",
    "FerretDB",
    "Hazelcast",
    "Ignite",
    "Kafka",
    "MSSQLServer",
    "MariaDB",
    "Memcached",
    "MongoDB",
    "MySQL",
    "Oracle",
    "PerconaXtraDB",
    "PgBouncer",
    "Pgpool",
    "Postgres",
    "ProxySQL",
    "RabbitMQ",
    "Redis",
    "RedisSentinel",
    "SingleStore",
    "Solr",
    "ZooKeeper",
];

/// Groups of objects that hold templates and make no pods of them: policies about objects, schemas, settings of tools.
const NEVER: [&str; 10] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "config.kubernetes.io",
    "gatekeeper.sh",
    "kubewarden.io",
    "kustomize.config.k8s.io",
    "kyverno.io",
    "policy.open-cluster-management.io",
    "template.openshift.io",
    "templates.kluctl.io",
];

/// Names, and ends of names, of fields that describe pods without their containers, in lower case.
const POD_TEMPLATES: [&str; 5] = ["podlabels", "podmetadata", "podtemplate", "podtemplates", "podtemplatespec"];

/// Fields that only pods have.
const ONLY_OF_PODS: [&str; 10] = [
    "affinity",
    "hostNetwork",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
];

fn family(api_version: &str, kind: &str) -> Option<&'static Family> {
    let group = super::kinds::group_of(api_version);
    FAMILIES.iter().find(|family| family.kinds.contains(&kind) && is_in_group(group, family.group))
}

/// Whether objects of this kind make pods in a way that is not known.
pub(super) fn is_known(api_version: &str, kind: &str) -> bool {
    family(api_version, kind).is_some()
}

/// The label of pods whose value is the name of the object that made them; `None` where no label says so.
pub(super) fn pod_label(maker: &PodMaker) -> Option<&'static str> {
    family(&maker.api_version, &maker.kind).map(|family| family.label).filter(|label| !label.is_empty())
}

/// What an object that is of no kind that is known says about pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Templates {
    /// `spec.template` is the template of its pods.
    Own,
    /// Pod templates stand somewhere else in its `spec`.
    Nested,
    /// There is none.
    None,
}

/// The pod templates in an object of this group.
pub(super) fn templates(tree: &Tree<'_>, object: NodeId, group: &str) -> Templates {
    if NEVER.iter().any(|never| is_in_group(group, never)) {
        return Templates::None;
    }
    let Some(spec) = tree.field(object, "spec") else { return Templates::None };
    if tree.field(spec, "template").is_some_and(|template| is_template(tree, template)) {
        return Templates::Own;
    }
    let is_nested = |(key, value): &(NodeId, NodeId)| {
        let name = tree.key(*key).unwrap_or_default().to_lowercase();
        let has_spec = || is_template(tree, *value) || tree.field(*value, "spec").is_some_and(|spec| is_of_pods(tree, spec));
        match name.as_str() {
            _ if POD_TEMPLATES.iter().any(|end| name.ends_with(end)) => {
                !tree.entries(*value).is_empty() || matches!(tree.value(*value), Value::Sequence(items) if !items.is_empty())
            }
            "containers" => has_images(tree, *value),
            _ if name.ends_with("template") => has_spec(),
            _ if name.ends_with("podspec") => has_containers(tree, *value) || is_of_pods(tree, *value),
            _ => false,
        }
    };
    let has_nested = |node: NodeId| match tree.value(node) {
        Value::Mapping(entries) => entries.iter().any(is_nested),
        _ => false,
    };
    if tree.descendants([spec]).any(has_nested) { Templates::Nested } else { Templates::None }
}

/// Whether a list is one of containers: some of them say which image they run.
fn has_images(tree: &Tree<'_>, node: NodeId) -> bool {
    matches!(tree.value(node), Value::Sequence(items) if items.iter().any(|item| tree.field(*item, "image").is_some()))
}

/// Whether a `spec` without containers is that of pods all the same: controllers add the containers.
fn is_of_pods(tree: &Tree<'_>, spec: NodeId) -> bool {
    tree.entries(spec).iter().any(|(key, ..)| ONLY_OF_PODS.contains(&&**key))
}

fn is_template(tree: &Tree<'_>, node: NodeId) -> bool {
    tree.field(node, "spec").is_some_and(|spec| has_containers(tree, spec))
}

fn has_containers(tree: &Tree<'_>, spec: NodeId) -> bool {
    let containers = tree.field(spec, "containers").map(|containers| tree.value(containers));
    matches!(containers, Some(Value::Sequence(items)) if !items.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::documents::Documents;

    fn found(spec: &str) -> Templates {
        let text = format!("spec: {spec}");
        let tree = Documents::new(&text).next().unwrap().unwrap();
        templates(&tree, tree.root(), "example.org")
    }

    #[test]
    fn templates_are_found_where_they_stand() {
        assert_eq!(found("{template: {spec: {containers: [{name: c}]}}}"), Templates::Own);
        assert_eq!(found("{tasks: [{template: {spec: {containers: [{name: c}]}}}]}"), Templates::Nested);
        assert_eq!(found("{jobTargetRef: {template: {spec: {containers: [{name: c}]}}}}"), Templates::Nested);
        assert_eq!(found("{leader: {podSpec: {containers: [{name: c}]}}}"), Templates::Nested);
        for nested in [
            "{template: {spec: {serviceAccountName: x, tolerations: []}}}",
            "{template: {metadata: {labels: {app: web}}, spec: {affinity: {}}}}",
            "{podTemplate: {metadata: {labels: {app: web}}}}",
            "{nodeSets: [{podMetadata: {labels: {app: web}}}]}",
            "{server: {podSpec: {priorityClassName: high}}}",
            "{containers: [{image: i}]}",
            "{workers: [{containers: [{name: c, image: i}]}]}",
            "{podTemplates: [{spec: {containers: [{name: c}]}}]}",
            "{podLabels: {app: web}}",
        ] {
            assert_eq!(found(nested), Templates::Nested, "{nested}");
        }
        for none in
            ["{podTemplate: {}}", "{template: {spec: {source: git}}}", "{template: {spec: {containers: []}}}", "{size: 3}", "[1]"]
        {
            assert_eq!(found(none), Templates::None, "{none}");
        }
    }

    #[test]
    fn a_group_is_known_with_its_subdomains_and_not_by_its_kinds_alone() {
        assert!(is_known("kafka.strimzi.io/v1beta2", "Kafka") && is_known("core.strimzi.io/v1beta2", "StrimziPodSet"));
        assert!(is_known("serving.knative.dev/v1", "Service") && !is_known("v1", "Service"));
        assert!(!is_known("notstrimzi.io/v1", "Kafka"));
        assert!(is_known("gateway.networking.k8s.io/v1", "Gateway") && !is_known("networking.istio.io/v1", "Gateway"));
    }

    #[test]
    fn no_kind_is_listed_twice_in_a_group() {
        for (i, family) in FAMILIES.iter().enumerate() {
            for other in &FAMILIES[i + 1..] {
                let shared = other.group == family.group && other.kinds.iter().any(|kind| family.kinds.contains(kind));
                assert!(!shared, "{}", family.group);
            }
        }
    }
}
