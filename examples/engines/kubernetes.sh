#!/usr/bin/env bash
# A coreset on Kubernetes: an Indexed Job a stage, over a volume claim `coreset` that all pods mount at /data.
# Not tried on a cluster by its authors. This script runs where kubectl, bunny-cli and /data are.
#   examples/engines/kubernetes.sh --embeddings /data/laion --out /data/coreset --sample 2000000
set -euo pipefail
IMAGE=${IMAGE:-bunny-cli:latest}
for ((round = 0; round < 1000; round++)); do
    planned=$(bunny-cli data coreset plan-parts "$@")
    [[ -n $planned ]] || break
    read -r stage parts <<<"$planned"
    job="bunny-$round"
    kubectl apply -f - <<YAML
apiVersion: batch/v1
kind: Job
metadata: { name: $job }
spec:
  completionMode: Indexed
  completions: $parts
  parallelism: 64
  backoffLimitPerIndex: 5
  # 75 and kills are tried again; any other code of the program will not mend.
  podFailurePolicy: { rules: [{ action: FailIndex, onExitCodes: { operator: In, values: [1, 2, 101] } }] }
  template:
    spec:
      restartPolicy: Never
      volumes: [{ name: data, persistentVolumeClaim: { claimName: coreset } }]
      containers:
        - name: part
          image: $IMAGE
          command: [sh, -c, 'exec bunny-cli data coreset run-part --embeddings /data/laion --out /data/coreset --stage $stage --part "\$JOB_COMPLETION_INDEX"']
          volumeMounts: [{ name: data, mountPath: /data }]
          resources: { limits: { cpu: "8", memory: 16Gi } }
YAML
    kubectl wait --for=condition=complete --timeout=24h "job/$job"
done
bunny-cli data coreset finish "$@"
