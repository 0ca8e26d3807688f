// The generated cases of cyclonus, in the cluster that KUBECONFIG names. Generator, simulator and comparison are those of cyclonus. Its own command asks
// the API server five times a second at most, and runs a program in a pod for each pair of pods; this one runs one in each pod.
//
//	cyclonus [-mode pod-ip|service-ip] [-family ipv4|ipv6] [-only 1,7]    prints a line of JSON for each case
//	worker -jobs JSON                                  what runs in a pod: connects, and prints the results
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	"github.com/mattfenwick/cyclonus/pkg/worker"
	"github.com/sirupsen/logrus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	requestsPerSecond = 200
	patience          = time.Second
)

// What is printed of a case.
type outcome struct {
	Number  int      `json:"number"`
	Name    string   `json:"name"`
	Tags    []string `json:"tags"`
	Passed  bool     `json:"passed"`
	Message string   `json:"message,omitempty"`
	// Why the case cannot run.
	Impossible string `json:"impossible,omitempty"`
	// Pairs of different pods that were tried, and those among them that had to be denied.
	Pairs  int `json:"pairs"`
	Denied int `json:"denied"`
}

func main() {
	var err error
	if filepath.Base(os.Args[0]) == "worker" {
		err = work()
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	mode := flag.String("mode", generator.ProbeModePodIP, "what is connected to: pod-ip or service-ip")
	family := flag.String("family", "ipv4", "which addresses of pods and Services: ipv4 or ipv6")
	only := flag.String("only", "", "the numbers of cases, separated by commas")
	protocols := flag.String("protocols", "TCP,UDP", "what the pods listen on")
	flag.Parse()
	wanted, err := numbers(*only)
	if err != nil {
		return err
	}
	// The output is for a program.
	output := os.Stdout
	os.Stdout = os.Stderr
	logrus.SetLevel(logrus.WarnLevel)
	connected, err := connect()
	if err != nil {
		return err
	}
	client := cluster{connected, *family == "ipv6"}
	var listened []v1.Protocol
	for _, protocol := range strings.Split(*protocols, ",") {
		listened = append(listened, v1.Protocol(protocol))
	}
	namespaces := []string{"x", "y", "z"}
	resources, err := probe.NewDefaultResources(client, namespaces, []string{"a", "b", "c"}, []int{80, 81}, listened, nil, 300, true, "registry.k8s.io")
	if err != nil {
		return err
	}
	interpreter := connectivity.NewInterpreter(client, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		VerifyClusterStateBeforeTestCase: true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          1,
		JobTimeoutSeconds:                1,
		BatchJobs:                        true,
		// A pod reaches itself whatever policies say, and what it sends to itself never leaves it.
		IgnoreLoopback: true,
	})
	last, err := resources.GetPod("z", "c")
	if err != nil {
		return err
	}
	for index, testCase := range generator.NewTestCaseGenerator(true, last.IP, namespaces, nil, nil).GenerateAllTestCases() {
		if number := index + 1; len(wanted) == 0 || wanted[number] {
			found := outcome{Number: number, Name: testCase.Description, Tags: testCase.Tags.Keys(), Impossible: impossible(testCase, *mode)}
			if found.Impossible == "" {
				execute(interpreter, testCase, *mode, &found)
			}
			line, err := json.Marshal(found)
			if err != nil {
				return err
			}
			fmt.Fprintln(output, string(line))
		}
	}
	return nil
}

func numbers(text string) (map[int]bool, error) {
	found := map[int]bool{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		number, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("-only: %w", err)
		}
		found[number] = true
	}
	return found, nil
}

func connect() (*kube.Kubernetes, error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = requestsPerSecond, requestsPerSecond
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &kube.Kubernetes{ClientSet: set, RestConfig: config}, nil
}

// Why a case cannot run in this mode.
func impossible(testCase *generator.TestCase, mode string) string {
	for _, step := range testCase.Steps {
		for _, action := range step.Actions {
			if mode == generator.ProbeModeServiceIP && (action.CreatePod != nil || action.SetPodLabels != nil) {
				return "cyclonus has no Service address of a pod that the case makes or changes"
			}
		}
	}
	return ""
}

func execute(interpreter *connectivity.Interpreter, testCase *generator.TestCase, mode string, found *outcome) {
	for _, step := range testCase.Steps {
		// Cases share their probes.
		own := *step.Probe
		own.Mode = generator.ProbeMode(mode)
		step.Probe = &own
	}
	result := interpreter.ExecuteTestCase(testCase)
	found.Passed = result.Err == nil && result.Passed(true)
	if result.Err != nil {
		found.Message = result.Err.Error()
	}
	for index, step := range result.Steps {
		last := step.Comparison(len(step.KubeProbes) - 1)
		for _, key := range last.Wrapped.Keys() {
			if key.From == key.To {
				continue
			}
			item := last.Get(key.From, key.To)
			found.Pairs++
			isDenied := false
			for _, job := range item.Simulated.JobResults {
				isDenied = isDenied || job.Combined == probe.ConnectivityBlocked
			}
			if isDenied {
				found.Denied++
			}
			if !item.IsSuccess() && found.Message == "" {
				found.Message = fmt.Sprintf("step %d: from %s to %s: %s", index+1, key.From, key.To, differences(item))
			}
		}
	}
}

// A cluster, of which the addresses of one family are seen.
type cluster struct {
	kube.IKubernetes
	isIPv6 bool
}

func (c cluster) GetPodsInNamespace(namespace string) ([]v1.Pod, error) {
	pods, err := c.IKubernetes.GetPodsInNamespace(namespace)
	for index := range pods {
		c.choose(&pods[index])
	}
	return pods, err
}

func (c cluster) GetPod(namespace string, name string) (*v1.Pod, error) {
	pod, err := c.IKubernetes.GetPod(namespace, name)
	if err == nil {
		c.choose(pod)
	}
	return pod, err
}

func (c cluster) choose(pod *v1.Pod) {
	if c.isIPv6 {
		// A pod without one is not ready yet.
		pod.Status.PodIP = ""
		for _, address := range pod.Status.PodIPs {
			if strings.Contains(address.IP, ":") {
				pod.Status.PodIP = address.IP
			}
		}
	}
}

func (c cluster) CreateService(service *v1.Service) (*v1.Service, error) {
	if c.isIPv6 {
		service.Spec.IPFamilies = []v1.IPFamily{v1.IPv6Protocol}
	}
	return c.IKubernetes.CreateService(service)
}

func differences(item *connectivity.Item) string {
	var parts []string
	for key, measured := range item.Kube.JobResults {
		if simulated := item.Simulated.JobResults[key]; simulated == nil || simulated.Combined != measured.Combined {
			parts = append(parts, fmt.Sprintf("%s is %s", key, measured.Combined))
		}
	}
	return strings.Join(parts, ", ")
}

// Does the requests of a batch, all at the same time, and each of them once more if it fails, as the worker of cyclonus does.
func work() error {
	jobs := flag.String("jobs", "", "")
	flag.Parse()
	var batch worker.Batch
	if err := json.Unmarshal([]byte(*jobs), &batch); err != nil {
		return err
	}
	results := make([]*worker.Result, len(batch.Requests))
	var group sync.WaitGroup
	for index, request := range batch.Requests {
		group.Go(func() {
			err := try(request)
			if err != nil {
				err = try(request)
			}
			results[index] = &worker.Result{Request: request}
			if err != nil {
				results[index].Error = err.Error()
			}
		})
	}
	group.Wait()
	return json.NewEncoder(os.Stdout).Encode(results)
}

func try(request *worker.Request) error {
	connection, err := net.DialTimeout(strings.ToLower(string(request.Protocol)), request.Address(), patience)
	if err != nil {
		return err
	}
	defer connection.Close()
	if request.Protocol != v1.ProtocolUDP {
		return nil
	}
	// Only an answer shows that a datagram arrived.
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte("hostname\n")); err != nil {
		return err
	}
	count, err := connection.Read(make([]byte, 512))
	if err == nil && count == 0 {
		err = errors.New("an empty answer")
	}
	return err
}
