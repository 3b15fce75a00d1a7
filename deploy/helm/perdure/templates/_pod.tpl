{{/*
The template of a pod that runs `perdure`.

dict "root" . "component" "api" "args" (list "api" …) and, where there are any:
  "values"  of the component: resources, env, podTemplate, image
  "env"     more environment, YAML
  "volumes", "mounts"  more of them, YAML
  "isJob"   it ends by itself: no probes, no ports
  "init"    containers that run before, a list of dicts with name and args
  "startupSeconds", "graceSeconds"
*/}}
{{- define "perdure.pod" -}}
{{- $base := include "perdure.basePod" . | fromYaml -}}
{{- $merged := mergeOverwrite $base (deepCopy .root.Values.podTemplate) (deepCopy (.values.podTemplate | default dict)) -}}
{{- toYaml $merged -}}
{{- end -}}

{{- define "perdure.container" -}}
- name: {{ .name }}
  image: {{ .image | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ .args | toJson }}
  env:
    {{- include "perdure.env" .root | nindent 4 }}
    {{- with .env }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- include "perdure.containerSecurity" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- with .values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    {{- include "perdure.volumeMounts" .root | nindent 4 }}
    {{- with .mounts }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "perdure.basePod" -}}
{{- $root := .root -}}
{{- $image := .values.image | default (include "perdure.image" $root) -}}
metadata:
  labels:
    {{- include "perdure.labels" . | nindent 4 }}
  annotations:
    {{- if not .isJob }}
    checksum/config: {{ include "perdure.env" $root | sha256sum }}
    {{- end }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    kubectl.kubernetes.io/default-container: perdure
spec:
  serviceAccountName: {{ include "perdure.serviceAccountName" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "perdure.podSecurity" $root | nindent 4 }}
  {{- if .isJob }}
  restartPolicy: {{ .restartPolicy | default "Never" }}
  {{- else }}
  terminationGracePeriodSeconds: {{ add $root.Values.preStopSeconds (.graceSeconds | default 10) 20 }}
  {{- if $root.Values.topologySpread.enabled }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "perdure.selector" . | nindent 10 }}
  {{- end }}
  {{- end }}
  {{- with .init }}
  initContainers:
    {{- range . }}
    {{- include "perdure.container" (dict "root" $root "name" .name "image" $image "args" .args "values" (dict "resources" $.values.resources)) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "perdure.container" (dict "root" $root "name" "perdure" "image" $image "args" .args "env" .env "mounts" .mounts "values" .values) | nindent 4 }}
      {{- if not .isJob }}
      ports:
        - name: metrics
          containerPort: {{ $root.Values.metrics.port }}
        {{- if eq .component "api" }}
        - name: http
          containerPort: 8080
        {{- end }}
      {{- if $root.Values.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $root.Values.preStopSeconds }}
      {{- end }}
      startupProbe:
        httpGet: {path: /health/live, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: {{ div (.startupSeconds | default 120) 2 }}
      livenessProbe:
        httpGet: {path: /health/live, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /health/ready, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- end }}
  volumes:
    {{- include "perdure.volumes" $root | nindent 4 }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Environment of processes that are looked at. */}}
{{- define "perdure.served" -}}
- name: PERDURE_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
- name: PERDURE_METRICS_HOST
  value: 0.0.0.0
{{- end -}}

{{- define "perdure.instance" -}}
- name: PERDURE_INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}
